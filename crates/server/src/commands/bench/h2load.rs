//! nghttp2's load generator against the same simulator: same connections, streams, bearer and body.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Instant;

use anyhow::{Context, bail};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bugle_model::{Clock, SystemClock};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};

use super::audience;
use super::broadcast::share;
use super::http::{Connection, post};
use super::load::per_second;
use super::process::cpu_of_ended_children;
use super::world::World;

/// How fast, and what it costs.
pub(super) struct Rate {
    pub(super) per_second: f64,
    /// Processor time for one, in microseconds.
    pub(super) micros: f64,
    /// The simulator's, and its part of all processors' time.
    pub(super) sim_micros: f64,
    pub(super) sim_share: f64,
}

/// Ready to run.
pub(super) struct H2load {
    url: String,
    authorization: String,
    body: PathBuf,
    open: (usize, usize),
}

impl H2load {
    /// `None` if it is not installed.
    pub(super) async fn find(world: &World) -> anyhow::Result<Option<Self>> {
        let asked = tokio::task::spawn_blocking(|| Command::new("h2load").arg("--version").output()).await?;
        if !asked.is_ok_and(|output| output.status.success()) {
            return Ok(None);
        }
        let account: Value = serde_json::from_slice(&std::fs::read(world.credentials())?)?;
        let bearer = bearer(world, &account).await?;
        let body = world.dir().join("h2load-body");
        std::fs::write(&body, audience::rendered("000000000"))?;
        let project = account["project_id"].as_str().context("the account has no project")?;
        Ok(Some(Self {
            url: format!("{}/v1/projects/{project}/messages:send", world.sink),
            authorization: format!("authorization: Bearer {bearer}"),
            body,
            open: world.open,
        }))
    }

    pub(super) fn name(&self) -> String {
        let (connections, streams) = self.open;
        format!("h2load -c {connections} -m {streams} -t 2")
    }

    pub(super) async fn run(&self, world: &World, requests: u64) -> anyhow::Result<Rate> {
        let mut command = Command::new("h2load");
        command
            .args(["-t", "2", "-n", &requests.to_string(), "-c", &self.open.0.to_string()])
            .args(["-m", &self.open.1.to_string(), "-H", &self.authorization])
            .args(["-H", "content-type: application/json", "-d"])
            .args([self.body.as_os_str(), self.url.as_ref()]);
        let (before, sim, began) = (cpu_of_ended_children()?, world.sim.cpu()?, Instant::now());
        let output = tokio::task::spawn_blocking(move || command.output()).await??;
        let cpu = cpu_of_ended_children()?.saturating_sub(before);
        let sim = world.sim.cpu()?.saturating_sub(sim);
        Ok(Rate {
            sim_share: share(sim, began.elapsed()),
            sim_micros: 1e6 / per_second(requests, sim),
            per_second: rate_in(&output, requests)?,
            micros: 1e6 / per_second(requests, cpu),
        })
    }
}

/// What h2load says, if all requests succeeded.
fn rate_in(output: &Output, requests: u64) -> anyhow::Result<f64> {
    let text = String::from_utf8_lossy(&output.stdout);
    if !text.contains(&format!("status codes: {requests} 2xx")) {
        bail!("not all requests of h2load succeeded:\n{text}");
    }
    text.lines()
        .find_map(|line| {
            let (_, rest) = line.strip_prefix("finished in ")?.split_once(", ")?;
            rest.split_once(" req/s")?.0.parse().ok()
        })
        .context("h2load does not say how fast it was")
}

/// An access token of the simulator, as long as Google's.
async fn bearer(world: &World, account: &Value) -> anyhow::Result<String> {
    let text = |name: &str| {
        account[name]
            .as_str()
            .with_context(|| format!("the account has no {name}"))
    };
    let now = SystemClock.now().as_secs();
    let audience = text("token_uri")?;
    let header = json!({"alg": "RS256", "typ": "JWT"});
    let claims = json!({"iss": text("client_email")?, "aud": audience, "iat": now, "exp": now + 3_600,
        "scope": "https://www.googleapis.com/auth/firebase.messaging"});
    let signed = [header, claims]
        .map(|part| URL_SAFE_NO_PAD.encode(part.to_string()))
        .join(".");
    let key = PrivatePkcs8KeyDer::from_pem_slice(text("private_key")?.as_bytes())?;
    let key = RsaKeyPair::from_pkcs8(key.secret_pkcs8_der())?;
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(
        &RSA_PKCS1_SHA256,
        &SystemRandom::new(),
        signed.as_bytes(),
        &mut signature,
    )
    .ok()
    .context("cannot sign")?;
    let form = format!(
        "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion={signed}.{}",
        URL_SAFE_NO_PAD.encode(signature)
    );
    let mut connection = Connection::open(world.sim_addr()).await?;
    let answer: Value = serde_json::from_slice(connection.exchange(&post("/token", &form)).await?)?;
    let token = answer["access_token"]
        .as_str()
        .context("the simulator gave no access token")?;
    Ok(token.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(text: &str) -> Output {
        Output {
            status: std::process::ExitStatus::default(),
            stdout: text.as_bytes().to_vec(),
            stderr: Vec::new(),
        }
    }

    #[test]
    fn the_rate_is_read_only_if_all_requests_succeeded() {
        let good =
            output("finished in 950.12ms, 105249.51 req/s, 9.1MB/s\nstatus codes: 100 2xx, 0 3xx, 0 4xx, 0 5xx\n");
        assert!((rate_in(&good, 100).unwrap() - 105_249.51).abs() < 0.001);
        let bad = output("finished in 1.00s, 100.00 req/s, 9.1MB/s\nstatus codes: 90 2xx, 0 3xx, 10 4xx, 0 5xx\n");
        assert!(rate_in(&bad, 100).is_err());
    }
}

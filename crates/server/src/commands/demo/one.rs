//! Simulator and server in this process: nothing to start, nothing to find.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use bugle_sim::Sim;

use super::broadcast::Costs;
use super::{Demo, KEY};
use crate::config::Settings;
use crate::lifecycle::Lifecycle;
use crate::{telemetry, wiring};

/// In one process nothing can be told apart.
struct Together;

impl Costs for Together {
    fn server_cpu(&self) -> Option<Duration> {
        None
    }

    fn peaks_mib(&self) -> Option<(f64, f64)> {
        None
    }
}

pub(super) async fn run(demo: &Demo, dir: &Path) -> anyhow::Result<()> {
    let config = bugle_sim::Config {
        tls: true,
        state_dir: Some(dir.join("simulator")),
        ..bugle_sim::Config::default()
    };
    let sim = Sim::start(config).await.context("cannot start the simulator")?;
    let settings = settings(demo, dir, &sim)?;
    telemetry::log(&settings.log)?;
    let life = Lifecycle::default();
    life.listen()?;
    let server = wiring::start(&settings, &life, telemetry::metrics()?, None).await?;
    let url = format!("http://{}", server.addr);
    tokio::select! {
        shown = demo.show(&url, sim.addr(), &Together) => {
            shown?;
            demo.closing_words(&url, sim.addr())?;
        }
        () = life.stop.cancelled() => {}
    }
    if !demo.once {
        life.stop.cancelled().await;
    }
    life.stop.cancel();
    server.ended(&life).await?;
    sim.stop().await;
    Ok(())
}

fn settings(demo: &Demo, dir: &Path, sim: &Sim) -> anyhow::Result<Settings> {
    let mut settings = Settings::default();
    settings.http.listen = demo.listen;
    settings.api.keys = vec![KEY.to_owned().into()];
    settings.data.dir = dir.join("server");
    sim.endpoint().clone_into(&mut settings.fcm.endpoint);
    settings.fcm.credentials_file = path_text(&dir.join("simulator/service-account.json"))?;
    settings.tls.extra_ca_file = path_text(&dir.join("simulator/ca.pem"))?;
    "warn".clone_into(&mut settings.log.level);
    settings.validate()?;
    Ok(settings)
}

fn path_text(path: &Path) -> anyhow::Result<String> {
    path.to_str()
        .map(str::to_owned)
        .with_context(|| format!("the path {} is no UTF-8 text", path.display()))
}

//! What is on the other side: the address to listen on, and the providers.

use std::io::ErrorKind;

use bugle_model::SystemClock;
use bugle_provider::{Finding, fcm};
use tokio::net::TcpListener;
use tokio::task::LocalSet;

use crate::client::Client;
use crate::config::Settings;

pub(super) async fn check(settings: &Settings) -> Vec<Finding> {
    let mut found = vec![listen(settings).await];
    let tried = fcm::check(&settings.fcm, &settings.tls, &SystemClock);
    found.extend(LocalSet::new().run_until(tried).await);
    found
}

async fn listen(settings: &Settings) -> Finding {
    const ITEM: &str = "http.listen";
    let addr = settings.http.listen;
    match TcpListener::bind(addr).await {
        Ok(_) => Finding::ok(ITEM, format!("{addr} is free")),
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            let at = crate::commands::connect::reachable(addr);
            if Client::new(format!("http://{at}"), "").is_healthy().await {
                return Finding::ok(ITEM, format!("a healthy bugle answers at {addr}"));
            }
            let remedy = "set http.listen to a free address, or end what listens there";
            Finding::failed(
                ITEM,
                format!("{addr} is in use, and no healthy bugle answers there"),
                remedy,
            )
        }
        Err(error) => Finding::failed(
            ITEM,
            format!("{addr}: {error}"),
            "set http.listen to an address of this machine, and a port above 1023 unless bugle may use lower ones",
        ),
    }
}

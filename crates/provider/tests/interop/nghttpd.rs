//! nghttpd: HTTP/2 by the library nghttp2.

use rustix::process::Signal;

use crate::process::{Server, program};
use crate::traffic::{Traffic, run, simulator};

/// It answers by a file, and writes down every frame.
fn start(options: &[&str]) -> Server {
    Server::start(&program("nghttpd", "nghttp2-server"), |dir, tls, port| {
        let folder = dir.join("v1/projects/bugle-sim");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("messages:send"), r#"{"name":"projects/p/messages/1"}"#).unwrap();
        let mut args: Vec<String> = ["-v", "-a", "127.0.0.1", "-d", dir.to_str().unwrap()]
            .iter()
            .chain(options)
            .map(|&arg| arg.into())
            .collect();
        args.push(port.to_string());
        if !options.contains(&"--no-tls") {
            args.extend([&tls.key, &tls.certificate].map(|path| path.to_str().unwrap().into()));
        }
        args
    })
}

/// How many requests it has seen whole.
fn processed(server: &Server) -> usize {
    server.read("output.log").matches(":method: POST").count()
}

/// Sends over so many connections, all of which must be answered exactly once.
async fn exact(options: &[&str], connections: usize, count: usize, message: &str) -> (Server, Traffic) {
    let server = start(options);
    let sim = simulator().await;
    let scheme = if options.contains(&"--no-tls") { "http" } else { "https" };
    let traffic = Traffic::with_message(
        &sim,
        &server.url(scheme),
        Some(&server.tls.authority),
        connections,
        message,
    );
    traffic.send_all(count).await;
    traffic.is_exact(|| processed(&server)).await;
    assert_eq!(traffic.account.unprocessed.get(), 0, "nothing was refused");
    (server, traffic)
}

#[test]
fn every_request_is_answered_once_over_several_tls_connections() {
    run(async {
        exact(&["-n", "2"], 4, 5_000, crate::traffic::MESSAGE).await;
    });
}

#[test]
fn every_request_is_answered_once_without_tls_with_padding_and_trailers() {
    run(async {
        let options = ["--no-tls", "-b", "200", "--trailer", "a: b"];
        exact(&options, 2, 2_000, crate::traffic::MESSAGE).await;
    });
}

#[test]
fn a_small_limit_of_streams_is_never_overrun() {
    run(async {
        let (_, traffic) = exact(&["-m", "3"], 2, 1_000, crate::traffic::MESSAGE).await;
        assert_eq!(traffic.client.capacity(), 6);
    });
}

#[test]
fn a_header_table_of_any_size_is_kept_in_step() {
    run(async {
        for size in ["0", "100", "1500", "65536"] {
            let options = [
                &format!("--header-table-size={size}"),
                &format!("--encoder-header-table-size={size}"),
            ];
            exact(&options.map(|option| &option[..]), 2, 500, crate::traffic::MESSAGE).await;
        }
    });
}

#[test]
fn a_body_larger_than_the_windows_arrives_whole() {
    run(async {
        let message = format!(r#"{{"notification":{{"title":"{}"}}}}"#, "x".repeat(100_000));
        let (server, _) = exact(&["-w", "10", "-W", "16"], 2, 40, &message).await;
        let log = server.read("output.log");
        assert!(log.contains("WINDOW_UPDATE"));
        let received: usize = (log.lines())
            .filter_map(|line| line.split_once("recv DATA frame <length=")?.1.split(',').next())
            .map(|length| length.parse::<usize>().unwrap())
            .sum();
        assert!(received >= 40 * 100_000, "{received}");
        assert!(received < 40 * 100_300, "{received}: nothing twice");
    });
}

#[test]
fn a_server_that_is_stopped_and_killed_in_the_middle_loses_no_target() {
    run(async {
        let mut server = start(&["-n", "1"]);
        let sim = simulator().await;
        let traffic = Traffic::new(&sim, &server.url("https"), Some(&server.tls.authority), 2);
        let disturb = async {
            for (n, signal) in [(300, Signal::TERM), (700, Signal::KILL)] {
                traffic.accepted(n).await;
                server.stop(signal);
                assert!(server.start_again());
            }
        };
        tokio::join!(traffic.send_all(3_000), disturb);
        let (accepted, lost) = (traffic.account.accepted.get(), traffic.account.lost.get());
        let processed = processed(&server);
        // What was processed beyond what was accepted are requests whose connection was lost, and nothing else.
        assert!(lost > 0);
        assert!(
            (accepted..=accepted + lost).contains(&processed),
            "{accepted} {lost} {processed}"
        );
    });
}

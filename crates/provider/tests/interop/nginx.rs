//! nginx, answering by itself and as a proxy before the simulator.

use rustix::process::Signal;

use crate::process::{Server, program};
use crate::traffic::{Traffic, run, simulator};

/// Starts it with directives for the `http` block and for the location; each request it has processed is a line of `access.log`.
pub(crate) fn start(http: &str, location: &str) -> Server {
    Server::start(&program("nginx", "nginx-light"), |dir, tls, port| {
        let (dir, certificate, key) = (dir.display(), tls.certificate.display(), tls.key.display());
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {dir}/{name};\n"))
            .concat();
        let text = format!(
            "daemon off; user root; worker_processes 2; pid {dir}/pid; error_log {dir}/error.log warn;\n\
             events {{ worker_connections 512; }}\n\
             http {{ {temporary} log_format plain '$connection $status $request_length';\n\
             access_log {dir}/access.log plain; {http}\n\
             server {{ listen 127.0.0.1:{port} ssl http2;\n\
             ssl_certificate {certificate}; ssl_certificate_key {key};\n\
             location / {{ {location} }} }} }}\n"
        );
        std::fs::write(format!("{dir}/nginx.conf"), text).unwrap();
        [
            "-p",
            &dir.to_string(),
            "-c",
            &format!("{dir}/nginx.conf"),
            "-e",
            "stderr",
        ]
        .map(String::from)
        .into()
    })
}

const BY_ITSELF: &str = r#"default_type application/json; return 200 '{"name":"projects/p/messages/1"}';"#;

/// The requests that it has answered, and over how many connections.
fn processed(server: &Server) -> (usize, usize) {
    let log = server.read("access.log");
    let connections: std::collections::BTreeSet<_> = log.lines().filter_map(|line| line.split(' ').next()).collect();
    let answered = log.lines().filter(|line| line.split(' ').nth(1) == Some("200")).count();
    assert_eq!(answered, log.lines().count(), "{log}");
    (answered, connections.len())
}

#[test]
fn ten_thousand_requests_outlive_nginxs_usual_goaways() {
    run(async {
        let (server, sim) = (start("", BY_ITSELF), simulator().await);
        let traffic = Traffic::new(&sim, &server.url("https"), Some(&server.tls.authority), 4);
        traffic.send_all(10_000).await;
        traffic.is_exact(|| processed(&server).0).await;
        let (_, connections) = processed(&server);
        assert!(connections >= 10, "{connections}");
    });
}

#[test]
fn a_goaway_every_fifty_requests_loses_and_doubles_nothing() {
    run(async {
        let server = start("keepalive_requests 50;", BY_ITSELF);
        let sim = simulator().await;
        let traffic = Traffic::new(&sim, &server.url("https"), Some(&server.tls.authority), 3);
        traffic.send_all(2_000).await;
        traffic.is_exact(|| processed(&server).0).await;
        let (_, connections) = processed(&server);
        assert!(connections >= 40, "{connections}");
        assert!(traffic.account.unprocessed.get() > 0, "some were above the last stream");
    });
}

#[test]
fn behind_a_proxy_with_small_windows_the_simulator_sees_each_message_once() {
    run(async {
        let sim = simulator().await;
        let proxy = format!(
            "proxy_http_version 1.1; proxy_set_header Connection ''; proxy_pass http://{};",
            sim.addr()
        );
        let server = start("keepalive_requests 200; http2_body_preread_size 512;", &proxy);
        let message = format!(r#"{{"notification":{{"title":"{}"}}}}"#, "x".repeat(3_000));
        let authority = Some(&*server.tls.authority);
        let traffic = Traffic::with_message(&sim, &server.url("https"), authority, 2, &message);
        traffic.send_all(1_000).await;
        traffic.is_exact(|| processed(&server).0).await;
        let stats = sim.stats();
        assert_eq!((stats.requests, stats.tokens, stats.repeats), (1_000, 1_000, 0));
    });
}

#[test]
fn a_small_limit_of_streams_is_never_overrun() {
    run(async {
        let server = start("http2_max_concurrent_streams 4;", BY_ITSELF);
        let sim = simulator().await;
        let traffic = Traffic::new(&sim, &server.url("https"), Some(&server.tls.authority), 2);
        traffic.send_all(900).await;
        traffic.is_exact(|| processed(&server).0).await;
        assert_eq!(traffic.account.unprocessed.get(), 0, "nothing was refused");
        assert_eq!(traffic.client.capacity(), 8);
    });
}

#[test]
fn a_body_larger_than_the_window_reaches_what_is_behind_it_whole() {
    run(async {
        let behind = bugle_testkit::free_port();
        let http = format!(
            "client_max_body_size 1m; http2_body_preread_size 1k;\n\
             server {{ listen 127.0.0.1:{behind}; access_log off; location / {{ {BY_ITSELF} }} }}"
        );
        let server = start(&http, &format!("proxy_pass http://127.0.0.1:{behind};"));
        let sim = simulator().await;
        let message = format!(r#"{{"notification":{{"title":"{}"}}}}"#, "x".repeat(300_000));
        let authority = Some(&*server.tls.authority);
        let traffic = Traffic::with_message(&sim, &server.url("https"), authority, 2, &message);
        traffic.send_all(30).await;
        traffic.is_exact(|| processed(&server).0).await;
        let log = server.read("access.log");
        let lengths = log
            .lines()
            .map(|line| line.split(' ').nth(2).unwrap().parse::<usize>().unwrap());
        for length in lengths {
            assert!((300_000..305_000).contains(&length), "{length}");
        }
    });
}

#[test]
fn a_reload_in_the_middle_loses_no_target() {
    run(async {
        let (server, sim) = (start("", BY_ITSELF), simulator().await);
        let traffic = Traffic::new(&sim, &server.url("https"), Some(&server.tls.authority), 2);
        let disturb = async {
            for n in [500, 1_500] {
                traffic.accepted(n).await;
                server.signal(Signal::HUP);
            }
        };
        tokio::join!(traffic.send_all(4_000), disturb);
        // A worker that leaves may cut a connection whose requests it has not read. Those are told as lost, and nothing else may be sent twice.
        accounts_for_what_was_lost(&traffic, &server);
    });
}

#[test]
fn a_server_that_is_stopped_and_killed_in_the_middle_loses_no_target() {
    run(async {
        let (mut server, sim) = (start("", BY_ITSELF), simulator().await);
        let traffic = Traffic::new(&sim, &server.url("https"), Some(&server.tls.authority), 2);
        let disturb = async {
            for (n, signal) in [(500, Signal::TERM), (1_500, Signal::KILL)] {
                traffic.accepted(n).await;
                server.stop(signal);
                assert!(server.start_again());
            }
        };
        tokio::join!(traffic.send_all(4_000), disturb);
        assert!(traffic.account.lost.get() > 0);
        accounts_for_what_was_lost(&traffic, &server);
    });
}

/// What was answered beyond what was accepted are requests whose connection was lost, and nothing else.
fn accounts_for_what_was_lost(traffic: &Traffic, server: &Server) {
    let (accepted, lost) = (traffic.account.accepted.get(), traffic.account.lost.get());
    let log = server.read("access.log");
    let answered = log.lines().filter(|line| line.contains(" 200 ")).count();
    assert!(answered <= accepted + lost, "{accepted} {lost} {answered}");
    // A process that is killed or leaves may have answered some that it has not written down.
    assert!(answered + 200 >= accepted, "{accepted} {lost} {answered}");
}

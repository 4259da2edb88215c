use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use bugle_testkit::proxy::Proxy;

use crate::soon;

/// A server that sends back what it gets, and ends its half when the client has.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut from = stream.try_clone().unwrap();
                drop(std::io::copy(&mut from, &mut stream));
                drop(stream.shutdown(Shutdown::Write));
            });
        }
    });
    address
}

fn connect(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect(proxy.address()).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

fn say(stream: &mut TcpStream, words: &str) {
    stream.write_all(words.as_bytes()).unwrap();
}

fn hear(stream: &mut TcpStream, words: &str) {
    let mut heard = vec![0; words.len()];
    stream.read_exact(&mut heard).unwrap();
    assert_eq!(String::from_utf8_lossy(&heard), words);
}

fn hears_nothing_for(stream: &mut TcpStream, time: Duration) {
    stream.set_read_timeout(Some(time)).unwrap();
    let error = stream.read(&mut [0]).unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        "{error}"
    );
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
}

/// Whether the other side has ended the connection.
fn has_ended(stream: &mut TcpStream) -> bool {
    matches!(stream.read(&mut [0]), Ok(0))
        || matches!(stream.read(&mut [0]), Err(error) if error.kind() == ErrorKind::ConnectionReset)
}

#[test]
fn it_passes_all_bytes_both_ways_and_the_end_too() {
    let proxy = Proxy::start(echo());
    let mut stream = connect(&proxy);
    let sent: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let mut half = stream.try_clone().unwrap();
    let copy = sent.clone();
    let writer = std::thread::spawn(move || {
        half.write_all(&copy).unwrap();
        half.shutdown(Shutdown::Write).unwrap();
    });
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).unwrap();
    writer.join().unwrap();
    assert!(heard == sent, "{} bytes of {}", heard.len(), sent.len());
    soon("the connection is forgotten", || proxy.connections() == 0);
}

#[test]
fn a_cut_ends_connections_and_refuses_new_ones_until_it_is_restored() {
    let proxy = Proxy::start(echo());
    for round in 0..20 {
        let mut streams = [connect(&proxy), connect(&proxy)];
        for stream in &mut streams {
            say(stream, "before");
            hear(stream, "before");
        }
        assert_eq!(proxy.connections(), 2);
        proxy.cut();
        assert_eq!(proxy.connections(), 0, "round {round}");
        assert!(streams.iter_mut().all(has_ended));
        let error = TcpStream::connect(proxy.address()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        proxy.restore();
        let mut stream = connect(&proxy);
        say(&mut stream, "after");
        hear(&mut stream, "after");
        drop(stream);
        soon("the connection is forgotten", || proxy.connections() == 0);
    }
}

#[test]
fn a_stall_holds_everything_back_and_loses_nothing() {
    let proxy = Proxy::start(echo());
    let mut old = connect(&proxy);
    say(&mut old, "before ");
    hear(&mut old, "before ");
    proxy.stall();
    say(&mut old, "meanwhile");
    hears_nothing_for(&mut old, Duration::from_millis(300));
    let mut new = connect(&proxy);
    say(&mut new, "new");
    hears_nothing_for(&mut new, Duration::from_millis(300));
    assert_eq!(proxy.connections(), 2);
    proxy.restore();
    hear(&mut old, "meanwhile");
    hear(&mut new, "new");
}

#[test]
fn a_delay_is_in_each_answer_once_and_does_not_narrow_the_pipe() {
    let delay = Duration::from_millis(400);
    let proxy = Proxy::start(echo());
    let mut stream = connect(&proxy);
    proxy.delay(delay);
    let since = Instant::now();
    say(&mut stream, "ping");
    hear(&mut stream, "ping");
    assert!(since.elapsed() >= delay);

    // A hundred questions, 5 ms apart, and none waits for the answer before: one delay in all, not a hundred.
    let mut half = stream.try_clone().unwrap();
    let since = Instant::now();
    let writer = std::thread::spawn(move || {
        for number in 0..100 {
            say(&mut half, &format!("{number:03} "));
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    for number in 0..100 {
        hear(&mut stream, &format!("{number:03} "));
    }
    writer.join().unwrap();
    assert!(since.elapsed() >= delay);
    assert!(since.elapsed() < delay * 20, "{:?}", since.elapsed());

    proxy.restore();
    let since = Instant::now();
    say(&mut stream, "ping");
    hear(&mut stream, "ping");
    assert!(since.elapsed() < delay);
}

#[test]
fn it_serves_a_test_inside_a_runtime_and_ends_with_its_value() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let address = runtime.block_on(async {
        let proxy = Proxy::start(echo());
        let mut stream = tokio::net::TcpStream::connect(proxy.address()).await.unwrap();
        proxy.stall();
        proxy.restore();
        tokio::io::AsyncWriteExt::write_all(&mut stream, b"words")
            .await
            .unwrap();
        let mut heard = [0; 5];
        tokio::io::AsyncReadExt::read_exact(&mut stream, &mut heard)
            .await
            .unwrap();
        assert_eq!(&heard, b"words");
        proxy.address()
    });
    assert!(crate::refuses(address));
}

#[test]
fn a_server_that_is_gone_ends_the_client() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let upstream = listener.local_addr().unwrap();
    let proxy = Proxy::start(format!("localhost:{}", upstream.port()));
    let mut stream = connect(&proxy);
    say(&mut stream, "words");
    let (server, _) = listener.accept().unwrap();
    drop((server, listener));
    assert!(has_ended(&mut stream));
    // And one that never was there.
    assert!(has_ended(&mut connect(&proxy)));
}

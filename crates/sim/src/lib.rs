//! The simulator of push providers: an independent server that checks what bugle sends, misbehaves when told to, and
//! keeps an account of its own. It imports no other crate of this workspace, so that a mistake there is not repeated
//! here. Today it speaks FCM HTTP v1 and the `OAuth2` endpoint of Google's service accounts. `docs/simulator.md` is for
//! those who send to it; this page is for those who start it in their tests or read on in its source.
//!
//! ```no_run
//! # async fn example() -> bugle_sim::Result<()> {
//! let sim = bugle_sim::Sim::start(bugle_sim::Config::default()).await?;
//! println!("{}", sim.endpoint());
//! // ... send through it ...
//! assert_eq!(sim.stats().repeats, 0);
//! sim.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! # One port
//!
//! TLS (a CA of its own, ALPN `h2` and `http/1.1`) and plain text, HTTP/2 (with prior knowledge where there is no
//! ALPN) and HTTP/1.1 are all understood on the same port; [`Config::tls`] only decides which URLs are handed out.
//!
//! | request | what it is |
//! |---|---|
//! | `POST /v1/projects/{project}/messages:send` | FCM: bearer, project and message are checked as FCM does |
//! | `POST /token` | `OAuth2`: a JWT of the service account for an access token |
//! | `GET /sim` | the statistics as a page that refreshes itself, with a form for the settings |
//! | `GET /sim/stats` | [`Report`]: [`Stats`], the rate of the last second, memory and CPU time |
//! | `GET /sim/rates` | messages in each of the last 180 seconds, newest last |
//! | `GET /sim/tokens?class=&after=&limit=` | [`TokenPage`]: what became of each token, of one class or of all; `limit` 1 to 10000 (1000), `after` is the `next` of the page before |
//! | `GET /sim/tokens/{token}` | [`TokenCounts`] of one token (percent-encoded) |
//! | `GET /sim/messages` | the newest accepted messages, [`SeenMessage`], newest last |
//! | `GET /sim/marks` | with [`BlindTokens::Numbers`]: `clock_us`, microseconds since the start, and `marks`, number and time of each token from 900000000 on |
//! | `GET /sim/settings`, `POST /sim/settings` | [`Settings`]; changed by a JSON merge patch, unknown names are 400 |
//! | `POST /sim/reset` | forgets statistics, tokens and messages; settings and access tokens stay |
//! | `POST /sim/revoke` | makes every access token invalid |
//! | `GET /sim/ca.pem`, `GET /sim/service-account.json` | what a client needs |
//! | `GET /sim/help` | this list |
//!
//! Whoever reaches the port can read the simulator's credentials and change its behaviour: it is made for loopback
//! and for test networks.
//!
//! # What is checked
//!
//! In this order: `cut_every`, `all`, path and method, bearer (issued here, not expired, not revoked), project, body
//! (64 KiB at most), message, the token's prefix, the shares. Of a message: one of `token`, `topic` and `condition`;
//! a token of 1 to 4096 printable ASCII characters; only names that FCM knows, in either spelling (`fcm_options`,
//! `fcmOptions`); strings where strings belong; no `data` key that is `from` or `message_type` or begins with `google`
//! or `gcm`; a `ttl` like `3.5s` of 0 to 2419200 seconds; a known priority; an analytics label of 50 characters at
//! most; and the size: the `message` object as it was sent, without its target, has 4096 bytes at most, 2048 for a
//! topic or a condition. An assertion must be an RS256 JWT of the service account with the right `kid` (if any),
//! `iss`, `scope`, `iat` and `exp` (an hour at most), and as `aud` the `token_uri` or the URL that was asked.
//!
//! # Behaviour by token
//!
//! A token that begins with one of these words and a dash meets that fault. A number behind the word says how often:
//! `unavailable2-x` is answered 503 twice and accepted from then on. Without a number it is always, except that
//! `refused` is once, and that [`Settings::faults_per_token`] bounds the transient ones. The same words name faults
//! in the settings and outcomes in the statistics.
//!
//! | prefix | what happens | kind |
//! |---|---|---|
//! | `unregistered-` | 404, `FcmError` `UNREGISTERED` | definitive |
//! | `notfound-` | 404 without details | definitive |
//! | `badtoken-` | 400, `FcmError` `INVALID_ARGUMENT`, "The registration token is not a valid FCM registration token" | definitive |
//! | `payload-` | 400, `BadRequest` with a field violation | definitive |
//! | `mismatch-` | 403, `FcmError` `SENDER_ID_MISMATCH` | definitive |
//! | `thirdparty-` | 401, `FcmError` `THIRD_PARTY_AUTH_ERROR` | definitive |
//! | `unauthorized-` | 401, `ErrorInfo` `ACCESS_TOKEN_EXPIRED` | definitive |
//! | `forbidden-` | 403, `ErrorInfo` `IAM_PERMISSION_DENIED` | definitive |
//! | `quota-` | 429, `FcmError` `QUOTA_EXCEEDED`, `QuotaFailure` of `project:P`, `Retry-After` | transient |
//! | `devicequota-` | 429, `FcmError` `QUOTA_EXCEEDED`, `QuotaFailure` of `device:TOKEN`, `Retry-After` | transient |
//! | `ratelimit-` | 429 of Google's front end: `ErrorInfo` `RATE_LIMIT_EXCEEDED`, no `FcmError`, `Retry-After` | transient |
//! | `internal-` | 500, `FcmError` `INTERNAL` | transient |
//! | `unavailable-` | 503, `FcmError` `UNAVAILABLE` | transient |
//! | `slow-` | accepted after `slow_ms` | transient |
//! | `silent-` | never answered | transient |
//! | `cut-` | the TCP connection is cut, unanswered; the message was **not** accepted | transient |
//! | `refused-` | `RST_STREAM` with `REFUSED_STREAM` (HTTP/1.1: cut) | transient |
//!
//! Topics and conditions meet no faults but the one of `all`.
//!
//! # Behaviour by settings
//!
//! | setting | default | meaning |
//! |---|---|---|
//! | `all` | `null` | every message meets this fault, before the bearer is even looked at |
//! | `shares` | `{}` | thousandths per fault: `{"unregistered": 10, "unavailable": 10}` |
//! | `seed` | 0 | which tokens the shares meet |
//! | `faults_per_token` | `null` | after so many requests a token meets no transient fault any more |
//! | `latency` | `null` | how long answers to messages wait, drawn for each: [`Latency`]; `null`: `latency_ms` says it |
//! | `latency_ms` | 0 | every answer to a message waits so long |
//! | `slow_ms` | 5000 | how long `slow` waits, instead of the latency |
//! | `retry_after_s` | 1 | `Retry-After` of the 429s; none only by [`Sim::set`] |
//! | `unavailable_retry_after_s` | `null` | `Retry-After` of 503 |
//! | `goaway_every` | `null` | GOAWAY after so many messages on a connection; later streams are not processed |
//! | `cut_every` | `null` | every so-manieth message of a connection cuts it |
//! | `stream_limit` | 100 | `SETTINGS_MAX_CONCURRENT_STREAMS` of new connections |
//! | `token_lifetime_s` | 3600 | of new access tokens |
//! | `reject_exchange` | `false` | token exchanges are refused with `invalid_grant` |
//! | `exchange_unavailable` | `false` | token exchanges are answered 503 |
//!
//! # What is counted when
//!
//! A message is tallied in the moment in which its answer is handed to the stream: before the client can have it, and
//! only if the stream and its connection are still there; otherwise it is `lost`. `cut`, `silent` and `refused` are
//! tallied when they happen. Answers that were handed over before a cut are written out before it, but a client may
//! notice the cut before it has read them. A request that really is wrong is `malformed`, not `payload`: that one is
//! only ever asked for. What `validate_only` checks is `validated` and not accepted. A token's *class* is its newest
//! definitive outcome among accepted, unregistered, badtoken, payload, malformed and mismatch, else its newest of all.
//!
//! # The blind mode
//!
//! With [`Config::blind`] there is a second port, [`Sim::blind_endpoint`], whose HTTP/2 is answered without being
//! looked at: 200 to every request that ends. It exists for measuring speed on a machine that runs the sender too. Its
//! requests are counted in [`Stats`] as accepted, and with [`Config::blind_tokens`] its distinct tokens too; of the
//! settings only `stream_limit`, `latency` and `latency_ms` have a meaning there. Exchanges of tokens stay with the first port.
//!
//! Invariant: the sum of [`Stats::outcomes`] plus what is still open is [`Stats::requests`], and the sum over the
//! listing of tokens is the same, less what named no target and what was sent blindly.

mod blind;
mod choice;
mod config;
mod control;
mod error;
mod fault;
mod fcm;
mod form;
mod http1;
mod http2;
mod identity;
mod latency;
mod messages;
mod oauth;
mod page;
mod process;
mod rates;
mod reply;
mod report;
mod server;
mod settings;
mod shared;
mod sim;
mod stats;
mod tally;
mod wire;

pub use config::{BlindTokens, Config};
pub use error::{Error, Result};
pub use fault::{Fault, Outcome};
pub use identity::Files;
pub use latency::Latency;
pub use messages::SeenMessage;
pub use process::Process;
pub use report::{BlindStats, Report};
pub use settings::Settings;
pub use sim::Sim;
pub use stats::Stats;
pub use tally::{TokenCounts, TokenPage};

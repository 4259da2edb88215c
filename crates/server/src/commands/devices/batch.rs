//! A batch of lines on its way: sent, sent again, sent in halves, until every line is registered or known to be wrong.

use std::ops::Range;
use std::time::Duration;

use anyhow::bail;
use hyper::StatusCode;

use super::journal::Rejected;
use super::source::{Line, Place};
use crate::client::{Client, Unanswered};

/// Pauses before a request that met no server, or a server in trouble, is sent again.
const PAUSES: [Duration; 5] = [
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
];

/// Lines that go in one request.
pub(super) struct Batch {
    pub(super) lines: Vec<Line>,
    pub(super) end: Place,
}

/// A batch that is done.
pub(super) struct Done {
    pub(super) end: Place,
    pub(super) registered: u64,
    pub(super) rejected: Vec<Rejected>,
}

/// Registers a batch; every line is registered or set aside afterwards.
pub(super) async fn confirm(client: &Client, batch: Batch) -> anyhow::Result<Done> {
    let mut problems: Vec<Option<String>> = Vec::with_capacity(batch.lines.len());
    let mut commands = Vec::with_capacity(batch.lines.len());
    for (at, line) in batch.lines.iter().enumerate() {
        problems.push(line.command.as_ref().err().cloned());
        commands.extend(line.command.as_ref().ok().map(|command| (at, command.as_str())));
    }
    // Parts that are still to be sent.
    let mut open = Vec::new();
    if !commands.is_empty() {
        open.push(0..commands.len());
    }
    while let Some(part) = open.pop() {
        let refused = match send(client, &commands[part.clone()]).await? {
            Sent::Answered(told) => {
                for ((at, _), problem) in commands[part].iter().zip(told) {
                    problems[*at] = problem;
                }
                continue;
            }
            Sent::Refused(problem) => problem,
        };
        // One line spoils the request for the others: it is looked for by halves.
        match halves(&part) {
            Some(halves) => open.extend(halves),
            None => problems[commands[part.start].0] = Some(refused),
        }
    }
    let total = batch.lines.len() as u64;
    let lines = batch.lines.into_iter().zip(problems);
    let rejected = lines.filter_map(|(line, problem)| {
        Some(Rejected {
            number: line.number,
            raw: line.raw,
            problem: problem?,
        })
    });
    let rejected: Vec<_> = rejected.collect();
    Ok(Done {
        end: batch.end,
        registered: total - rejected.len() as u64,
        rejected,
    })
}

fn halves(part: &Range<usize>) -> Option<[Range<usize>; 2]> {
    let middle = part.start + part.len() / 2;
    (part.len() > 1).then_some([part.start..middle, middle..part.end])
}

/// What came of a request.
enum Sent {
    /// What is wrong with each command.
    Answered(Vec<Option<String>>),
    /// None was carried out, for this reason.
    Refused(String),
}

/// Sends some commands, again after a pause where the server is not there or in trouble.
async fn send(client: &Client, commands: &[(usize, &str)]) -> anyhow::Result<Sent> {
    let list: Vec<&str> = commands.iter().map(|(_, command)| *command).collect();
    let body = format!("{{\"parallel\":true,\"commands\":[{}]}}", list.join(","));
    let mut pauses = PAUSES.into_iter();
    loop {
        let trouble = match client.outcomes(body.clone()).await {
            Ok(replies) if replies.len() != commands.len() => {
                bail!("the server answered {} of {} commands", replies.len(), commands.len())
            }
            Ok(replies) => {
                let internal = replies
                    .iter()
                    .filter_map(|reply| reply.error.as_ref())
                    .find(|error| error.code == 100);
                match internal {
                    Some(error) => anyhow::anyhow!("{error}; see the server's log"),
                    None => {
                        return Ok(Sent::Answered(
                            replies
                                .into_iter()
                                .map(|reply| reply.error.map(|error| own_words(&error.message)))
                                .collect(),
                        ));
                    }
                }
            }
            Err(Unanswered::Http {
                status: StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE,
                problem,
            }) => {
                return Ok(Sent::Refused(own_words(&problem)));
            }
            Err(error @ Unanswered::Key { .. }) => return Err(error.into()),
            Err(error) => error.into(),
        };
        match pauses.next() {
            Some(pause) => tokio::time::sleep(pause).await,
            None => return Err(trouble),
        }
    }
}

/// The server's words about a command, without the place in a request that nobody sees.
fn own_words(message: &str) -> String {
    let message = message.strip_prefix("bad request: ").unwrap_or(message);
    let placed = message
        .strip_prefix("commands[")
        .and_then(|rest| rest.split_once("].device_register."));
    placed.map_or(message, |(_, rest)| rest).to_owned()
}

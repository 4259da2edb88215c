//! The API's table "Registering", for a group of registrations in one transaction.
//!
//! A group costs the same few statements whatever its size: all devices that it concerns are found and locked in the order of their keys, it is decided in memory
//! what becomes of each, and what is deleted, updated, touched and inserted goes in one statement each.
//!
//! Of two registrations that concern the same id, token or device only the first has its turn; the other one comes again, into a later group. So has one whose id or
//! token another process has written at the same moment: then it is found.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use bugle_model::{DeviceId, DeviceKey, Registration, Route, Timestamp};
use sqlx::PgConnection;

use super::batch::{Batcher, Turn, Write};
use super::failure::{Raced, is_of_the_data};
use super::rows::{Stored, TokenHash, token_hash};
use super::shared::Shared;
use super::subscriptions::Declared;
use super::{devices, subscriptions, written};
use crate::registry::record;
use crate::{Registered, Result, metrics};

/// A registration with what is computed before it comes to a group.
pub(super) struct Entry {
    pub(super) app: i32,
    pub(super) token_hash: TokenHash,
    /// See [`record::write_meta`].
    pub(super) meta: String,
    pub(super) registration: Registration,
    pub(super) now: Timestamp,
}

impl Entry {
    pub(super) fn new(app: i32, registration: Registration, now: Timestamp) -> Result<Self> {
        Ok(Self {
            app,
            token_hash: token_hash(registration.token.as_str()),
            meta: record::write_meta(&registration.meta)?,
            registration,
            now,
        })
    }

    pub(super) fn route(&self) -> Route {
        Route::of(self.registration.provider, self.registration.platform)
    }

    fn token(&self) -> Name<'_> {
        Name::Token(self.app, self.registration.provider.code(), self.token_hash)
    }

    fn id(&self) -> Option<Name<'_>> {
        let id = self.registration.id.as_ref()?;
        Some(Name::Id(self.app, id.as_str()))
    }
}

/// What only one device has.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Name<'a> {
    Id(i32, &'a str),
    Token(i32, u8, TokenHash),
}

/// `None` = it has not had its turn: once more.
type Answer = Option<Registered>;

/// Takes registrations and writes them in groups.
pub(super) type Registrar = Batcher<Arc<Entry>, Result<Answer>>;

/// So many groups are under way at most.
const GROUPS: usize = 2;
/// Registrations in a group at most.
const GROUP: usize = 128;

/// Starts the tasks that write groups.
pub(super) fn start(shared: &Arc<Shared>, runtime: &tokio::runtime::Handle) -> Registrar {
    let shared = Arc::clone(shared);
    let write: Write<Arc<Entry>, Result<Answer>> = Arc::new(move |jobs, turn| {
        let shared = Arc::clone(&shared);
        Box::pin(async move { write_group(&shared, jobs, &turn).await })
    });
    Batcher::start(runtime, GROUPS, GROUP, write)
}

/// Has a registration written, however often it must wait for its turn.
pub(super) async fn register(registrar: &Registrar, shared: &Shared, entry: Entry) -> Result<Registered> {
    let (entry, since) = (Arc::new(entry), Instant::now());
    loop {
        if let Some(registered) = registrar.run(Arc::clone(&entry)).await?? {
            return Ok(registered);
        }
        if since.elapsed() > shared.timeout {
            return Err(Raced.into());
        }
    }
}

async fn write_group(shared: &Shared, jobs: Vec<Arc<Entry>>, turn: &Turn) -> Result<Vec<Result<Answer>>> {
    let begun = Instant::now();
    let jobs = Arc::new(jobs);
    match transaction(shared, Arc::clone(&jobs), turn).await {
        Ok(answers) => {
            metrics::committed(answers.iter().flatten().count(), begun.elapsed());
            Ok(answers.into_iter().map(Ok).collect())
        }
        Err(error) if jobs.len() > 1 && is_of_the_data(&error) => {
            let mut answers = Vec::with_capacity(jobs.len());
            for job in &*jobs {
                let alone = transaction(shared, Arc::new(vec![Arc::clone(job)]), turn).await;
                answers.push(alone.map(|mut answers| answers.pop().flatten()));
            }
            Ok(answers)
        }
        Err(error) => Err(error),
    }
}

async fn transaction(shared: &Shared, jobs: Arc<Vec<Arc<Entry>>>, turn: &Turn) -> Result<Vec<Answer>> {
    let turn = turn.clone();
    let write = shared.write(move |tx| {
        let (jobs, turn) = (Arc::clone(&jobs), turn.clone());
        Box::pin(async move {
            let written = write(tx.conn(), &jobs).await;
            // What is left is the commit.
            turn.pass();
            written
        })
    });
    write.await
}

async fn write(conn: &mut PgConnection, jobs: &[Arc<Entry>]) -> Result<Vec<Answer>> {
    let mut answers: Vec<Answer> = jobs.iter().map(|_| None).collect();
    let mut group = Group::default();
    let turns = turns(jobs);
    let known = written::lock_known(conn, turns.iter().map(|(_, entry)| *entry)).await?;
    let known = Known::new(&known);
    for (place, entry) in turns {
        answers[place] = group.decide(place, entry, &known);
    }
    group.write(conn, &mut answers).await?;
    Ok(answers)
}

/// The registrations that share no id and no token, with their places.
fn turns(jobs: &[Arc<Entry>]) -> Vec<(usize, &Entry)> {
    let mut taken: HashSet<Name<'_>> = HashSet::with_capacity(2 * jobs.len());
    let mut turns = Vec::with_capacity(jobs.len());
    for (place, entry) in jobs.iter().enumerate() {
        let names = [Some(entry.token()), entry.id()];
        if names.iter().flatten().all(|name| !taken.contains(name)) {
            taken.extend(names.into_iter().flatten());
            turns.push((place, &**entry));
        }
    }
    turns
}

/// The devices that a group concerns, by what they are called now.
struct Known<'a>(HashMap<Name<'a>, &'a Stored>);

impl<'a> Known<'a> {
    fn new(rows: &'a [(Stored, TokenHash)]) -> Self {
        let mut names = HashMap::with_capacity(2 * rows.len());
        for (stored, hash) in rows {
            names.insert(Name::Id(stored.app, stored.device.id.as_str()), stored);
            names.insert(Name::Token(stored.app, stored.device.provider.code(), *hash), stored);
        }
        Self(names)
    }

    fn get(&self, name: Name<'_>) -> Option<&'a Stored> {
        self.0.get(&name).copied()
    }
}

/// What a group does.
#[derive(Default)]
struct Group<'a> {
    /// The devices that somebody of the group concerns.
    taken: HashSet<DeviceKey>,
    /// Holders of tokens that are somebody else's now.
    removed: Vec<i64>,
    touched: Vec<(DeviceKey, Timestamp)>,
    updated: Vec<(DeviceKey, &'a Entry)>,
    /// Devices whose provider, platform or token has changed.
    moved: Vec<i64>,
    inserted: Vec<New<'a>>,
    declared: Vec<Declared<'a>>,
}

/// A device that is not there yet.
pub(super) struct New<'a> {
    place: usize,
    pub(super) id: DeviceId,
    pub(super) entry: &'a Entry,
    /// Somebody was removed for it.
    takes_over: bool,
}

impl<'a> Group<'a> {
    /// Decides what becomes of a registration. The answer comes now if the device is known, when it is inserted if it is new, and not at all if somebody else of
    /// the group is at the same device.
    fn decide(&mut self, place: usize, entry: &'a Entry, known: &Known<'_>) -> Answer {
        let holder = known.get(entry.token());
        let device = match entry.id() {
            None => holder,
            Some(id) => known.get(id),
        };
        let other = holder.filter(|holder| device.is_none_or(|device| device.key != holder.key));
        if [device, other]
            .iter()
            .flatten()
            .any(|stored| self.taken.contains(&stored.key))
        {
            return None;
        }
        self.taken
            .extend([device, other].iter().flatten().map(|stored| stored.key));
        self.removed.extend(other.map(|stored| stored.key.0));
        let Some(stored) = device else {
            let given = entry.registration.id.clone();
            self.inserted.push(New {
                place,
                id: given.unwrap_or_else(|| DeviceId::generate(entry.now)),
                entry,
                takes_over: other.is_some(),
            });
            return None;
        };
        self.change(stored, entry);
        let (id, created_at) = (stored.device.id.clone(), stored.device.created_at);
        Some(Registered {
            device: record::declared(&entry.registration, id, created_at, entry.now),
            created: false,
        })
    }

    fn change(&mut self, stored: &Stored, entry: &'a Entry) {
        let (r, old) = (&entry.registration, &stored.device);
        let same = record::declared(r, old.id.clone(), old.created_at, old.updated_at);
        if stored.platform == r.platform && *old == same {
            self.touched.push((stored.key, entry.now));
        } else {
            self.updated.push((stored.key, entry));
        }
        if stored.route() != entry.route() || old.token != r.token {
            self.moved.push(stored.key.0);
        }
        self.declared.extend(Declared::new(stored.key, entry, false));
    }

    /// Deletes before it updates and inserts: tokens must be free.
    async fn write(mut self, conn: &mut PgConnection, answers: &mut [Answer]) -> Result<()> {
        devices::delete(conn, &self.removed).await?;
        written::update(conn, &self.updated).await?;
        written::touch(conn, &self.touched).await?;
        subscriptions::follow(conn, &self.moved).await?;
        // One order for all processes: two that write the same new devices wait for each other, never both.
        self.inserted
            .sort_by_key(|new| (new.entry.app, new.entry.registration.provider, new.entry.token_hash));
        let keys: BTreeMap<(i32, String), DeviceKey> = written::insert(conn, &self.inserted).await?;
        for new in self.inserted {
            let Some(key) = keys.get(&(new.entry.app, new.id.as_str().to_owned())) else {
                if new.takes_over {
                    // What was removed for it must not go without it.
                    return Err(Raced.into());
                }
                continue;
            };
            self.declared.extend(Declared::new(*key, new.entry, true));
            let (r, now) = (&new.entry.registration, new.entry.now);
            answers[new.place] = Some(Registered {
                device: record::declared(r, new.id, now, now),
                created: true,
            });
        }
        subscriptions::declare(conn, self.declared).await
    }
}

//! The PostgreSQL database that everything is moved to, and its table `bugle_transfer`: where everything comes from, and how far it is.

use std::collections::HashMap;
use std::str::FromStr;
use std::time::{Duration, Instant};

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, PgPool};

use super::Source;
use super::reader::{Place, ReadStep};
use super::tables::{TABLES, Table};
use crate::{DatabaseUrl, Error, Result, postgres};

/// What PostgreSQL's list of connections calls this one.
const NAME: &str = "bugle migrate-data";

/// Of which there is one in a database: "transfer" in ASCII.
const LOCK: i64 = 0x7472_616e_7366_6572;

/// How long a run waits for the end of one that was killed.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long connections of a bugle that has ended may be seen.
const ENDING: Duration = Duration::from_secs(2);

/// What is lost in a crash of PostgreSQL is the last steps, rows and places alike; the end is made durable.
const SETTINGS: &str = "SET lock_timeout = '10s'; SET idle_in_transaction_session_timeout = '60s'; SET synchronous_commit = off; SET timezone = 'UTC'";

/// One row a table, those of [`TABLES`]. `finished_at` is set in all of them at once.
const PROGRESS: &str = "CREATE TABLE bugle_transfer (
    table_name  text PRIMARY KEY,
    source      text NOT NULL,           -- SHA-256 of the SQLite database
    last_key    text,                    -- JSON; NULL = nothing moved yet
    rows        bigint  NOT NULL DEFAULT 0,
    done        boolean NOT NULL DEFAULT false,
    finished_at timestamptz
)";

/// A database that no other transfer writes to.
pub(super) struct Target {
    conn: PgConnection,
    /// For what works with pools only; connects when it is asked.
    pool: PgPool,
}

/// Where a transfer begins.
pub(super) enum Begun {
    /// At these places, one for each of [`TABLES`].
    At(Vec<Place>),
    /// Nowhere: this source is here, to the end.
    Finished,
}

impl Target {
    /// Connects, and waits a moment for another transfer that is just ending.
    pub(super) async fn connect(url: &DatabaseUrl) -> Result<Self> {
        // The parser's words may quote the password.
        let options = PgConnectOptions::from_str(url.expose())
            .map_err(|_| Error::Setup("the target: expected postgres://USER:PASSWORD@HOST:PORT/DATABASE".to_owned()))?
            .application_name(NAME);
        let place = format!("{}:{}", options.get_host(), options.get_port());
        let connected = tokio::time::timeout(PATIENCE, PgConnection::connect_with(&options)).await;
        let cannot = |problem: String| Error::Setup(format!("cannot connect to PostgreSQL at {place}: {problem}"));
        let mut conn = connected
            .map_err(|_| cannot(format!("no answer within {} s", PATIENCE.as_secs())))?
            .map_err(|error| cannot(error.to_string()))?;
        conn.execute(SETTINGS).await?;
        let mut target = Self {
            conn,
            pool: PgPoolOptions::new()
                .max_connections(1)
                .acquire_timeout(PATIENCE)
                .connect_lazy_with(options),
        };
        target.lock().await?;
        Ok(target)
    }

    pub(super) fn conn(&mut self) -> &mut PgConnection {
        &mut self.conn
    }

    async fn lock(&mut self) -> Result<()> {
        let since = Instant::now();
        loop {
            let locked: bool = sqlx::query_scalar("SELECT pg_try_advisory_lock($1)")
                .bind(LOCK)
                .fetch_one(self.conn())
                .await?;
            if locked {
                return Ok(());
            }
            if since.elapsed() > PATIENCE {
                return Err(Error::Setup(
                    "another `bugle migrate-data` is writing to the target: wait for its end".to_owned(),
                ));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Makes sure that the target is empty, or holds a part of this very source and nobody uses it; brings it to this version's form.
    pub(super) async fn begin(&mut self, source: &Source) -> Result<Begun> {
        self.must_be_unused().await?;
        if let Some(known) = self.known().await? {
            let begun = known.of(source)?;
            postgres::prepare(&self.pool).await?;
            return Ok(begun);
        }
        self.must_be_empty().await?;
        postgres::prepare(&self.pool).await?;
        self.first(source).await.map(Begun::At)
    }

    /// Notes that the target is being filled, from which moment on no bugle opens it.
    async fn first(&mut self, source: &Source) -> Result<Vec<Place>> {
        let mut tx = self.conn.begin().await?;
        tx.execute(PROGRESS).await?;
        for table in TABLES {
            sqlx::query("INSERT INTO bugle_transfer (table_name, source) VALUES ($1, $2)")
                .bind(table.name)
                .bind(source.fingerprint())
                .execute(&mut *tx)
                .await?;
        }
        tx.commit().await?;
        // One that opened it in the moment before the commit is seen now.
        if let Err(error) = self.must_be_unused().await {
            sqlx::query("DROP TABLE bugle_transfer").execute(self.conn()).await?;
            return Err(error);
        }
        let place = || Place {
            key: None,
            rows: 0,
            done: false,
        };
        Ok(TABLES.iter().map(|_| place()).collect())
    }

    /// The application's name is what every session may see of others. One that has just ended may be seen for another moment.
    async fn must_be_unused(&mut self) -> Result<()> {
        let since = Instant::now();
        loop {
            let others: i64 = sqlx::query_scalar(
                "SELECT count(*) FROM pg_stat_activity
                  WHERE datname = current_database() AND application_name LIKE 'bugle%' AND application_name <> $1",
            )
            .bind(NAME)
            .fetch_one(self.conn())
            .await?;
            if others == 0 {
                return Ok(());
            }
            if since.elapsed() > ENDING {
                return Err(Error::Setup(
                    "a bugle is running on the target: stop it first (its connections are in pg_stat_activity)"
                        .to_owned(),
                ));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// No rows but those of apps, of which a start makes some.
    async fn must_be_empty(&mut self) -> Result<()> {
        for Table { name, .. } in TABLES {
            let there: bool = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
                .bind(*name)
                .fetch_one(self.conn())
                .await?;
            if !there {
                continue;
            }
            let filled: bool = sqlx::query_scalar(AssertSqlSafe(format!("SELECT EXISTS (SELECT FROM {name})")))
                .fetch_one(self.conn())
                .await?;
            if filled {
                return Err(Error::Setup(format!(
                    "the target holds data already (there are rows in its table {name}): give an empty database"
                )));
            }
        }
        Ok(())
    }

    async fn known(&mut self) -> Result<Option<Known>> {
        let there: bool = sqlx::query_scalar("SELECT to_regclass('bugle_transfer') IS NOT NULL")
            .fetch_one(self.conn())
            .await?;
        if !there {
            return Ok(None);
        }
        let rows: Vec<(String, String, Option<String>, i64, bool, bool)> = sqlx::query_as(
            "SELECT table_name, source, last_key, rows, done, finished_at IS NOT NULL FROM bugle_transfer",
        )
        .fetch_all(self.conn())
        .await?;
        let mut known = Known {
            source: String::new(),
            places: HashMap::new(),
            finished: !rows.is_empty(),
        };
        for (table, source, key, rows, done, finished) in rows {
            known.source = source;
            known.finished &= finished;
            let rows = rows.cast_unsigned();
            known.places.insert(table, Place { key, rows, done });
        }
        Ok(Some(known))
    }

    /// The source's app numbers with those of the target: the same where they are free.
    pub(super) async fn apps(&mut self, apps: &[(i64, String)]) -> Result<HashMap<i64, i32>> {
        let mut numbers = HashMap::with_capacity(apps.len());
        let mut tx = self.conn.begin().await?;
        for (number, name) in apps {
            sqlx::query("INSERT INTO apps (key, name) VALUES ($1, $2) ON CONFLICT DO NOTHING")
                .bind(i32::try_from(*number).unwrap_or(i32::MAX))
                .bind(name)
                .execute(&mut *tx)
                .await?;
        }
        beyond(&mut tx, "apps", "key", 0).await?;
        for (number, name) in apps {
            sqlx::query("INSERT INTO apps (name) SELECT $1 WHERE NOT EXISTS (SELECT FROM apps WHERE name = $1)")
                .bind(name)
                .execute(&mut *tx)
                .await?;
            let given: i32 = sqlx::query_scalar("SELECT key FROM apps WHERE name = $1")
                .bind(name)
                .fetch_one(&mut *tx)
                .await?;
            numbers.insert(*number, given);
        }
        tx.commit().await?;
        Ok(numbers)
    }

    /// Writes a step and notes its place.
    pub(super) async fn write(&mut self, step: &ReadStep) -> Result<()> {
        let mut tx = self.conn.begin().await?;
        if step.rows > 0 {
            let mut copy = tx.copy_in_raw(&step.table.copy()).await?;
            copy.send(&step.data[..]).await?;
            copy.finish().await?;
        }
        sqlx::query(
            "UPDATE bugle_transfer SET last_key = coalesce($2, last_key), rows = rows + $3, done = $4 WHERE table_name = $1",
        )
        .bind(step.table.name)
        .bind(&step.key)
        .bind(step.rows.cast_signed())
        .bind(step.key.is_none())
        .execute(&mut *tx)
        .await?;
        Ok(tx.commit().await?)
    }

    /// Makes the target a database that bugle can work on, and notes that it is one, durably.
    pub(super) async fn finish(&mut self, source: &Source) -> Result<()> {
        for table in TABLES {
            if let Some(column) = table.identity {
                let highest = source.highest(table.name, column)?;
                beyond(self.conn(), table.name, column, highest).await?;
            }
            // Plans need statistics, and audiences are read from an index alone only where a vacuum has been.
            sqlx::query(AssertSqlSafe(format!("VACUUM (ANALYZE) {}", table.name)))
                .execute(self.conn())
                .await?;
        }
        let mut tx = self.conn.begin().await?;
        tx.execute("SET LOCAL synchronous_commit = on").await?;
        tx.execute("UPDATE bugle_transfer SET finished_at = now()").await?;
        Ok(tx.commit().await?)
    }
}

/// What a target says of the transfer that fills it.
struct Known {
    source: String,
    places: HashMap<String, Place>,
    finished: bool,
}

impl Known {
    /// How this source's transfer goes on.
    fn of(mut self, source: &Source) -> Result<Begun> {
        let begin_anew = "give an empty database";
        match (self.source == source.fingerprint(), self.finished) {
            (true, true) => return Ok(Begun::Finished),
            (true, false) => {}
            (false, true) => {
                return Err(Error::Setup(format!(
                    "the target was filled from another SQLite database, or from this one before it was changed: {begin_anew}"
                )));
            }
            (false, false) => {
                return Err(Error::Setup(format!(
                    "the target holds a part of another SQLite database, or of this one before it was changed, and the rest would not fit: {begin_anew}"
                )));
            }
        }
        let place = |table: &Table| self.places.remove(table.name);
        let places: Option<Vec<_>> = TABLES.iter().map(place).collect();
        places.map(Begun::At).ok_or_else(|| {
            Error::Setup(format!(
                "the target was being filled by another version of bugle: {begin_anew}"
            ))
        })
    }
}

/// Is a transfer under way here, or was one broken off?
pub(super) async fn is_half_filled(conn: &mut PgConnection) -> Result<bool> {
    let there: bool = sqlx::query_scalar("SELECT to_regclass('bugle_transfer') IS NOT NULL")
        .fetch_one(&mut *conn)
        .await?;
    if !there {
        return Ok(false);
    }
    let unfinished = "SELECT EXISTS (SELECT FROM bugle_transfer WHERE finished_at IS NULL)";
    Ok(sqlx::query_scalar(unfinished).fetch_one(conn).await?)
}

/// Sets a table's sequence beyond this number and all that are in the table; never back.
async fn beyond(conn: &mut PgConnection, table: &str, column: &str, highest: i64) -> Result<()> {
    let sql = format!(
        "SELECT setval(s.name, s.highest) FROM (
            SELECT pg_get_serial_sequence('{table}', '{column}') AS name,
                   greatest($1, (SELECT max({column}) FROM {table}), pg_sequence_last_value(pg_get_serial_sequence('{table}', '{column}')::regclass)) AS highest
         ) s WHERE s.highest > 0"
    );
    sqlx::query(AssertSqlSafe(sql)).bind(highest).execute(conn).await?;
    Ok(())
}

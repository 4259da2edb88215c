//! App names and the small integers that stand for them in rows.

use std::sync::Arc;

use bugle_model::AppId;
use rusqlite::{Connection, OptionalExtension};

use super::writer::Tx;
use crate::registry::apps::{Names, parse};
use crate::{Error, Result};

/// Every app that the database knows. There are as many as the configuration names, so all are kept. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Apps(Arc<Names<i64>>);

impl Apps {
    /// Reads all of them.
    pub(super) fn load(conn: &Connection) -> Result<Self> {
        let apps = Self::default();
        let mut statement = conn.prepare("SELECT key, name FROM apps")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            apps.0.remember(
                row.get(0)?,
                &parse(row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?)?,
            );
        }
        Ok(apps)
    }

    /// The app's number; it is given one at first use.
    pub(super) fn intern(&self, tx: &Tx<'_>, app: &AppId) -> Result<i64> {
        if let Some(key) = self.0.key(app) {
            return Ok(key);
        }
        tx.conn().execute(
            "INSERT INTO apps (name) VALUES (?) ON CONFLICT DO NOTHING",
            [app.as_str()],
        )?;
        let key = select(tx.conn(), app)?.ok_or_else(|| Error::Corrupt {
            place: "apps.name",
            detail: "a row that was inserted is not there".to_owned(),
        })?;
        // Only after the commit: a number that is rolled back may be given to another app.
        let (apps, app) = (self.clone(), app.clone());
        tx.after_commit(move || apps.0.remember(key, &app));
        Ok(key)
    }

    /// The app's number, if it has one: an app without has no rows.
    pub(super) fn find(&self, conn: &Connection, app: &AppId) -> Result<Option<i64>> {
        match self.0.key(app) {
            Some(key) => Ok(Some(key)),
            None => select(conn, app),
        }
    }

    /// The app of a number that stands in a row.
    pub(super) fn name(&self, conn: &Connection, key: i64) -> Result<AppId> {
        if let Some(app) = self.0.name(key) {
            return Ok(app);
        }
        let name: Option<String> = conn
            .prepare_cached("SELECT name FROM apps WHERE key = ?")?
            .query_row([key], |row| row.get(0))
            .optional()?;
        parse(&name.unwrap_or_default())
    }
}

fn select(conn: &Connection, app: &AppId) -> Result<Option<i64>> {
    let mut statement = conn.prepare_cached("SELECT key FROM apps WHERE name = ?")?;
    Ok(statement.query_row([app.as_str()], |row| row.get(0)).optional()?)
}

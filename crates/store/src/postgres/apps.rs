//! App names and the small integers that stand for them in rows.

use bugle_model::AppId;
use sqlx::PgConnection;

use super::shared::Shared;
use crate::Result;
use crate::registry::apps::{Names, parse};

/// Every app that this process has met. There are as many as the configuration names, so all are kept; a number is never given to another app.
#[derive(Default)]
pub(super) struct Apps(Names<i32>);

impl Apps {
    /// The app's number; it is given one at first use. Not to be called inside a transaction: what is remembered must be committed.
    pub(super) async fn intern(&self, shared: &Shared, app: &AppId) -> Result<i32> {
        match self.0.key(app) {
            Some(key) => Ok(key),
            // Once in a process's life: whoever waits for a registration need not have room for it.
            None => Box::pin(self.insert(shared, app)).await,
        }
    }

    async fn insert(&self, shared: &Shared, app: &AppId) -> Result<i32> {
        let name = app.clone();
        let key = shared
            .read(move |conn| {
                let name = name.clone();
                Box::pin(async move {
                    let key = sqlx::query_scalar(
                        "INSERT INTO apps (name) VALUES ($1) ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING key",
                    )
                    .bind(name.as_str())
                    .fetch_one(conn)
                    .await?;
                    Ok(key)
                })
            })
            .await?;
        self.0.remember(key, app);
        Ok(key)
    }

    /// The app's number, if it has one. Not to be called inside a transaction.
    pub(super) async fn existing(&self, shared: &Shared, app: &AppId) -> Result<Option<i32>> {
        if let Some(key) = self.0.key(app) {
            return Ok(Some(key));
        }
        let name = app.clone();
        let find = shared.read(move |conn| {
            let name = name.clone();
            Box::pin(async move {
                let key = sqlx::query_scalar("SELECT key FROM apps WHERE name = $1").bind(name.as_str());
                Ok(key.fetch_optional(conn).await?)
            })
        });
        let found = find.await?;
        if let Some(key) = found {
            self.0.remember(key, app);
        }
        Ok(found)
    }

    /// The app's number, if it has one: an app without has no rows.
    pub(super) async fn find(&self, conn: &mut PgConnection, app: &AppId) -> Result<Option<i32>> {
        if let Some(key) = self.0.key(app) {
            return Ok(Some(key));
        }
        let found: Option<i32> = sqlx::query_scalar("SELECT key FROM apps WHERE name = $1")
            .bind(app.as_str())
            .fetch_optional(conn)
            .await?;
        if let Some(key) = found {
            self.0.remember(key, app);
        }
        Ok(found)
    }

    /// The app of a number that stands in a row.
    pub(super) async fn name(&self, conn: &mut PgConnection, key: i32) -> Result<AppId> {
        if let Some(app) = self.0.name(key) {
            return Ok(app);
        }
        let name: Option<String> = sqlx::query_scalar("SELECT name FROM apps WHERE key = $1")
            .bind(key)
            .fetch_optional(conn)
            .await?;
        let app = parse(&name.unwrap_or_default())?;
        self.0.remember(key, &app);
        Ok(app)
    }
}

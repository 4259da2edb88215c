//! What is written of pages that go on, or are given back: each table by one statement.

use bugle_model::PushKey;
use sqlx::PgConnection;

use crate::Result;
use crate::postgres::ledger::rows::int;

/// What is written of pages that do not end.
#[derive(Default)]
pub(super) struct Writes {
    pub(super) own: Vec<OwnWrite>,
    /// Row, progress, and where it is given back when it is due.
    pub(super) pages: Vec<(i64, Vec<u8>, Option<i64>)>,
}

/// The same of a push's own page.
pub(super) struct OwnWrite {
    pub(super) key: PushKey,
    pub(super) progress: Vec<u8>,
    pub(super) answered: u64,
    pub(super) payload: u64,
    pub(super) due: Option<i64>,
}

impl Writes {
    /// Progress, and where a due time comes with it the end of the lease.
    pub(super) async fn execute(self, conn: &mut PgConnection) -> Result<()> {
        if !self.pages.is_empty() {
            sqlx::query(
                "UPDATE pages p SET progress = w.progress, due = coalesce(w.due, p.due),
                                    lease_until = CASE WHEN w.due IS NULL THEN p.lease_until END
                   FROM (SELECT unnest($1::bigint[]) AS id, unnest($2::bytea[]) AS progress, unnest($3::bigint[]) AS due) AS w WHERE p.id = w.id",
            )
            .bind(self.pages.iter().map(|page| page.0).collect::<Vec<_>>())
            .bind(self.pages.iter().map(|page| page.1.as_slice()).collect::<Vec<_>>())
            .bind(self.pages.iter().map(|page| page.2).collect::<Vec<_>>())
            .execute(&mut *conn)
            .await?;
        }
        if !self.own.is_empty() {
            sqlx::query(
                "UPDATE pushes p SET progress = w.progress, answered = w.answered, payload = w.payload,
                                     page_due = coalesce(w.due, p.page_due),
                                     lease_until = CASE WHEN w.due IS NULL THEN p.lease_until END
                   FROM (SELECT unnest($1::bigint[]) AS key, unnest($2::bytea[]) AS progress, unnest($3::bigint[]) AS answered, unnest($4::bigint[]) AS payload,
                                unnest($5::bigint[]) AS due) AS w
                  WHERE p.key = w.key",
            )
            .bind(self.own.iter().map(|own| own.key.0).collect::<Vec<_>>())
            .bind(self.own.iter().map(|own| own.progress.as_slice()).collect::<Vec<_>>())
            .bind(self.own.iter().map(|own| int(own.answered)).collect::<Vec<_>>())
            .bind(self.own.iter().map(|own| int(own.payload)).collect::<Vec<_>>())
            .bind(self.own.iter().map(|own| own.due).collect::<Vec<_>>())
            .execute(conn)
            .await?;
        }
        Ok(())
    }
}

-- The ledger: pushes, their legs and pages, and the holds. docs/decisions/0001-ledger.md says what each index is walked for.
-- Times are milliseconds since the epoch; a route is Route::code (4 * provider + platform, 0 = unknown).

CREATE TABLE pushes (
    key        INTEGER PRIMARY KEY AUTOINCREMENT,
    app        INTEGER NOT NULL,
    uid        TEXT    NOT NULL,
    hash       BLOB    NOT NULL,          -- SHA-256 of the canonical request
    state      TEXT    NOT NULL,          -- running, paused; at the end done, rejected, cancelled, expired
    lane       INTEGER NOT NULL,
    providers  INTEGER NOT NULL,          -- bit (Provider::code) is set: the body has a payload for it
    created_at INTEGER NOT NULL,
    due        INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    ended_at   INTEGER,
    -- The push's own page: up to 100 explicit targets, or a native topic or condition.
    page_due   INTEGER,                   -- NULL = it has none, or it is settled
    route      INTEGER NOT NULL,          -- what all its targets go over, where that is known without a look-up, else 0
    expected   INTEGER NOT NULL,          -- targets in it
    answered   INTEGER NOT NULL DEFAULT 0,
    payload    INTEGER NOT NULL DEFAULT 0,
    progress   BLOB,                      -- codec::progress; its counts are the page's account once it is settled
    -- Erased when the push ends.
    channels   TEXT,                      -- JSON list; NULL = explicit targets
    targets    BLOB,                      -- codec::targets of its own page
    body       BLOB
) STRICT;

CREATE UNIQUE INDEX pushes_by_uid     ON pushes (app, uid);
CREATE INDEX        pushes_by_due     ON pushes (lane, app, route, page_due) WHERE page_due IS NOT NULL;
CREATE INDEX        pushes_by_expiry  ON pushes (expires_at) WHERE ended_at IS NULL AND state IN ('running', 'paused');
CREATE INDEX        pushes_closing ON pushes (key) WHERE ended_at IS NULL AND state IN ('cancelled', 'expired');
CREATE INDEX        pushes_by_end   ON pushes (ended_at) WHERE ended_at IS NOT NULL;

CREATE TABLE legs (
    push        INTEGER NOT NULL,
    route       INTEGER NOT NULL,
    app         INTEGER NOT NULL,           -- the push's, as is
    due         INTEGER NOT NULL,           -- this
    cursor      INTEGER NOT NULL DEFAULT 0, -- the last device key that was handed out
    bound       INTEGER,                    -- the newest key that is meant; NULL = not walked yet
    closed      INTEGER NOT NULL,           -- 1 = no further pages come from the audience
    next_seq    INTEGER NOT NULL DEFAULT 1,
    targeted    INTEGER NOT NULL DEFAULT 0,
    outstanding INTEGER NOT NULL DEFAULT 0, -- of those: in pages
    sent        INTEGER NOT NULL DEFAULT 0,
    failed      INTEGER NOT NULL DEFAULT 0,
    invalid     INTEGER NOT NULL DEFAULT 0,
    skipped     INTEGER NOT NULL DEFAULT 0,
    expired     INTEGER NOT NULL DEFAULT 0,
    cancelled   INTEGER NOT NULL DEFAULT 0,
    answered    INTEGER NOT NULL DEFAULT 0, -- final answers of the provider, and
    payload     INTEGER NOT NULL DEFAULT 0, -- how many of those said that the payload is refused
    rejected    INTEGER NOT NULL DEFAULT 0,
    ended_at    INTEGER,
    PRIMARY KEY (push, route)
) STRICT, WITHOUT ROWID;

CREATE INDEX legs_open     ON legs (due, push, route) WHERE closed = 0;
CREATE INDEX legs_waiting  ON legs (app, route, outstanding) WHERE outstanding > 0;
CREATE INDEX legs_rejected ON legs (push, route) WHERE rejected = 1 AND ended_at IS NULL;

CREATE TABLE pages (
    id        INTEGER PRIMARY KEY,
    push      INTEGER NOT NULL,
    route     INTEGER NOT NULL,
    seq       INTEGER NOT NULL,
    app       INTEGER NOT NULL,
    lane      INTEGER NOT NULL,
    due       INTEGER NOT NULL,
    after_key INTEGER,                      -- a range of the audience: after this device key,
    upto_key  INTEGER,                      -- up to this one; NULL = the targets stand in page_targets
    expected  INTEGER NOT NULL,
    progress  BLOB                          -- codec::progress; NULL = never worked on
) STRICT;

CREATE UNIQUE INDEX pages_by_id  ON pages (push, route, seq);
CREATE INDEX        pages_by_due ON pages (lane, app, route, due, push, seq);

-- Apart from the page row, which is rewritten with every progress.
CREATE TABLE page_targets (
    page    INTEGER PRIMARY KEY,
    targets BLOB NOT NULL                   -- codec::targets
) STRICT;

CREATE TABLE holds (
    app       INTEGER NOT NULL,
    route     INTEGER NOT NULL,
    reason    TEXT,                         -- NULL = not on hold now
    since     INTEGER NOT NULL,
    paused_ms INTEGER NOT NULL,             -- all ended holds together
    PRIMARY KEY (app, route)
) STRICT, WITHOUT ROWID;

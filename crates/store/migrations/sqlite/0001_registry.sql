-- The registry: apps, devices, their subscriptions, and devices that were removed because a provider declared them dead.
-- Times are milliseconds since 1970. Numbers for providers, platforms and routes are those of bugle_model.

CREATE TABLE apps (
    key  INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;

-- AUTOINCREMENT: audiences are walked by key and bounded by the newest one, so a key must never come back.
CREATE TABLE devices (
    key           INTEGER PRIMARY KEY AUTOINCREMENT,
    app           INTEGER NOT NULL,
    id            TEXT    NOT NULL,
    provider      INTEGER NOT NULL,
    platform      INTEGER NOT NULL,
    platform_word TEXT    NOT NULL,
    token         TEXT    NOT NULL,
    token_hash    INTEGER NOT NULL, -- the first 64 bits of the token's SHA-256
    user          TEXT    NOT NULL, -- '' = nobody
    meta          TEXT    NOT NULL, -- a JSON object of texts
    timezone      TEXT    NOT NULL,
    locale        TEXT    NOT NULL,
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX devices_by_id ON devices (app, id);
-- Not unique: hashes may collide, so the writer compares provider and text.
CREATE INDEX devices_by_token ON devices (app, token_hash);
CREATE INDEX devices_by_user ON devices (app, user, id) WHERE user <> '';

-- The route repeats the device's provider and platform, so that a rare platform's leg does not walk the whole channel.
CREATE TABLE subscriptions (
    app     INTEGER NOT NULL,
    channel TEXT    NOT NULL,
    route   INTEGER NOT NULL,
    key     INTEGER NOT NULL,
    origins INTEGER NOT NULL, -- bits: 1 channel, 2 topic, 4 user
    PRIMARY KEY (app, channel, route, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX subscriptions_by_device ON subscriptions (key, channel);

CREATE TABLE gone (
    seq           INTEGER PRIMARY KEY,
    app           INTEGER NOT NULL,
    id            TEXT    NOT NULL,
    provider      INTEGER NOT NULL,
    platform      INTEGER NOT NULL,
    platform_word TEXT    NOT NULL,
    token         TEXT    NOT NULL,
    user          TEXT    NOT NULL,
    meta          TEXT    NOT NULL,
    timezone      TEXT    NOT NULL,
    locale        TEXT    NOT NULL,
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL,
    subscriptions TEXT    NOT NULL, -- a JSON array of [channel, origins]
    push_uid      TEXT    NOT NULL, -- the push that found it dead
    reason        TEXT    NOT NULL, -- the provider's word
    gone_at       INTEGER NOT NULL
) STRICT;

CREATE INDEX gone_by_time ON gone (app, gone_at);

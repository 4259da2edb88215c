-- What is left of each provider's message quota, for all processes: see crates/store/src/books/quota.rs. Times are microseconds since 1970 on the database's clock.
-- Unlogged: a crash of the database may forget it.
CREATE UNLOGGED TABLE quotas (
    app             integer          NOT NULL,
    provider        smallint         NOT NULL,
    used_until      bigint           NOT NULL DEFAULT 0,
    level           double precision NOT NULL DEFAULT 0, -- messages a second at used_until
    throttled_until bigint           NOT NULL DEFAULT 0,
    pause           bigint           NOT NULL DEFAULT 0, -- the last one that the provider did not name
    PRIMARY KEY (app, provider)
) WITH (fillfactor = 20);

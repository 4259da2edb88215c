-- Subscriptions repeat their device's token, so that an audience is read from one part of one tree, however its devices are scattered over their table:
-- as PostgreSQL has it from the start. Copied in the order of the key, so that the new tree is packed.

CREATE TABLE covering (
    app     INTEGER NOT NULL,
    channel TEXT    NOT NULL,
    route   INTEGER NOT NULL,
    key     INTEGER NOT NULL,
    origins INTEGER NOT NULL, -- bits: 1 channel, 2 topic, 4 user
    token   TEXT    NOT NULL,
    PRIMARY KEY (app, channel, route, key)
) STRICT, WITHOUT ROWID;

INSERT INTO covering
SELECT s.app, s.channel, s.route, s.key, s.origins, d.token
  FROM subscriptions s CROSS JOIN devices d ON d.key = s.key
 ORDER BY s.app, s.channel, s.route, s.key;

DROP TABLE subscriptions;
ALTER TABLE covering RENAME TO subscriptions;

CREATE INDEX subscriptions_by_device ON subscriptions (key, channel);

-- The tables of the PostgreSQL store, and the shapes of what its functions are asked and answer.
-- Run inside the schema `session_pool`, which is the search path of whoever runs it.
--
-- All texts are compared byte by byte (COLLATE "C"), as every other engine does. Instants are double
-- precision seconds by the server's clock; what never comes is 'Infinity'.

CREATE TABLE IF NOT EXISTS release (version integer NOT NULL);

-- One pool's part of the database, and its epoch.
CREATE TABLE IF NOT EXISTS spaces (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text COLLATE "C" NOT NULL UNIQUE,
    epoch text COLLATE "C" NOT NULL,
    since double precision NOT NULL,        -- when the epoch began
    calm_until double precision NOT NULL,   -- what is older than the epoch rests until then
    marked boolean NOT NULL,                -- whether the epoch has, or had, such a rest
    longest_ttl double precision NOT NULL,  -- of the finite leases that were asked for
    server timestamptz NOT NULL             -- which run of the server the epoch belongs to
);

-- One row per key: every operation locks it first and writes it last, so it lies on a page with
-- room for many versions of itself, and nothing that changes in it is indexed.
CREATE TABLE IF NOT EXISTS keys (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    space integer NOT NULL REFERENCES spaces ON DELETE CASCADE,
    host text COLLATE "C" NOT NULL,
    principal text COLLATE "C" NOT NULL,
    agent text COLLATE "C" NOT NULL,
    counts integer[] NOT NULL DEFAULT '{0,0,0,0,0,0,0,0,0,0}',  -- by `nr(state)`
    tally jsonb NOT NULL DEFAULT '{}',
    open boolean NOT NULL DEFAULT true,
    note text NOT NULL DEFAULT '',
    note_version bigint NOT NULL DEFAULT 0,
    note_since double precision NOT NULL DEFAULT 0,
    cap bigint NOT NULL DEFAULT 0,
    max_waiting bigint NOT NULL DEFAULT 0,
    place bigint NOT NULL DEFAULT 0,     -- the last number in line that was given
    memories bigint NOT NULL DEFAULT 0,  -- how many sessions became memories so far
    present integer NOT NULL DEFAULT 0,  -- rows in `waiters`
    standing integer NOT NULL DEFAULT 0, -- those in line
    wanting integer NOT NULL DEFAULT 0,  -- those in line for a free session
    ends double precision NOT NULL DEFAULT 'Infinity',  -- nobody's patience ends before
    tombs double precision NOT NULL DEFAULT '-Infinity', -- no tombstone holds after
    calm boolean NOT NULL DEFAULT false, -- somebody stands aside for the length of the calm
    UNIQUE (space, host, principal, agent)
) WITH (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500,
        autovacuum_vacuum_cost_delay = 0);

-- The first seventeen columns are those of an entry, in its order.
CREATE TABLE IF NOT EXISTS entries (
    id text COLLATE "C" NOT NULL,
    state text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    fence bigint NOT NULL,
    rid text COLLATE "C" NOT NULL,
    agent_version text COLLATE "C" NOT NULL,
    pinned boolean NOT NULL,
    conversation text COLLATE "C",
    holder text COLLATE "C" NOT NULL,
    lease text COLLATE "C" NOT NULL,
    lapses double precision NOT NULL,
    since double precision NOT NULL,
    fresh_until double precision NOT NULL,
    expires double precision NOT NULL,
    deadline double precision NOT NULL,
    facts text COLLATE "C" NOT NULL,
    op text COLLATE "C" NOT NULL,
    space integer NOT NULL,
    key bigint NOT NULL,
    queued double precision NOT NULL,  -- upkeep looks at it then; the deadline, or earlier
    remembered bigint,                 -- its number among the memories, if it is one
    -- How a hand-out is undone; `was` is null unless it can be.
    was text COLLATE "C",
    was_deadline double precision,
    place bigint,
    former_rid text COLLATE "C",       -- these five once its holder has written something
    former_version text COLLATE "C",
    former_pinned boolean,
    former_fresh double precision,
    former_expires double precision,
    former_facts text COLLATE "C",
    PRIMARY KEY (space, id)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000,
        autovacuum_vacuum_cost_delay = 0, autovacuum_vacuum_insert_scale_factor = 0.1);

-- What a conversation has (remembered is null) and had. Hashed: a conversation's name may be longer
-- than an index takes.
CREATE INDEX IF NOT EXISTS entries_talk
    ON entries (key, hashtextextended(conversation, 0), remembered)
    WHERE conversation IS NOT NULL;
CREATE INDEX IF NOT EXISTS entries_free ON entries (key, expires, id)
    WHERE state IN ('idle', 'ageing') AND NOT pinned;
CREATE INDEX IF NOT EXISTS entries_free_version ON entries (key, agent_version, expires, id)
    WHERE state IN ('idle', 'ageing');
CREATE INDEX IF NOT EXISTS entries_lease ON entries (key, lease) WHERE lease <> '';
CREATE INDEX IF NOT EXISTS entries_state ON entries (key, state, since, id);
CREATE INDEX IF NOT EXISTS entries_rid ON entries (key, rid);
-- By `queued`, not by `deadline`: renewing a lease moves the deadline and touches no index.
CREATE INDEX IF NOT EXISTS entries_due ON entries (space, queued, id) WHERE queued < 'Infinity';

-- Requests in line, and those that have not fetched what became of them.
CREATE TABLE IF NOT EXISTS waiters (
    key bigint NOT NULL,
    request text COLLATE "C" NOT NULL,
    holder text COLLATE "C" NOT NULL,
    conversation text COLLATE "C",
    version text COLLATE "C",
    kind text COLLATE "C" NOT NULL,  -- the version as part of an index: '' for any
    wish double precision NOT NULL,
    ttl double precision NOT NULL,
    own_only boolean NOT NULL,
    place bigint NOT NULL,
    patience double precision NOT NULL,
    bell text NOT NULL,
    standing boolean NOT NULL,
    line text,      -- 'wish', 'own', or null while nothing it could take can exist
    granted text COLLATE "C",
    verdict text,
    PRIMARY KEY (key, request)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500,
        autovacuum_vacuum_cost_delay = 0);

CREATE INDEX IF NOT EXISTS waiters_wish ON waiters (key, kind, wish, place, request)
    WHERE line = 'wish';
CREATE INDEX IF NOT EXISTS waiters_own ON waiters (key, place, request) WHERE line = 'own';
CREATE INDEX IF NOT EXISTS waiters_talk
    ON waiters (key, hashtextextended(conversation, 0), place, request) WHERE standing;
-- Partial, so that it cannot be mistaken for a way to one request while the table is empty.
CREATE INDEX IF NOT EXISTS waiters_patience ON waiters (key, patience)
    WHERE patience < 'Infinity';

-- Requests that were taken back, refused for a minute.
CREATE TABLE IF NOT EXISTS tombstones (
    key bigint NOT NULL,
    request text COLLATE "C" NOT NULL,
    ends double precision NOT NULL,
    PRIMARY KEY (key, request)
);
CREATE INDEX IF NOT EXISTS tombstones_ends ON tombstones (key, ends);

CREATE TABLE IF NOT EXISTS principals (
    space integer NOT NULL REFERENCES spaces ON DELETE CASCADE,
    name text COLLATE "C" NOT NULL,
    identity text COLLATE "C",
    turn bigint NOT NULL DEFAULT 0,  -- the last in the line of those who lack
    PRIMARY KEY (space, name)
);

CREATE TABLE IF NOT EXISTS shares (
    space integer NOT NULL REFERENCES spaces ON DELETE CASCADE,
    principal text COLLATE "C" NOT NULL,
    holder text COLLATE "C" NOT NULL,
    granted double precision NOT NULL,
    wish double precision NOT NULL,
    most double precision NOT NULL,
    ends double precision NOT NULL,
    turn bigint NOT NULL,            -- 0 for one that has what it wished for
    PRIMARY KEY (space, principal, holder)
);

-- No table has a column of these, so another release may shape them anew; the functions that use
-- them go with them, and come again.
DROP TYPE IF EXISTS change, question, answer, held, desk, reply, claimed CASCADE;

-- One change of one entry: `space.Put`.
CREATE TYPE change AS (
    id text, op text, state text, version bigint, fence bigint, facts text,
    deadline_in double precision, expires_in double precision, fresh_in double precision,
    rid text, agent_version text, pinned boolean, unbind boolean, guards jsonb, tally jsonb
);

-- One question about a key; `kind` is take, put, withdraw, read or note.
CREATE TYPE question AS (
    kind text, request text, holder text, conversation text, version text, wish double precision,
    ttl double precision, cap bigint, max_waiting bigint, own_only boolean,
    patience double precision, note_version bigint, place bigint, note text, open boolean,
    put change
);

CREATE TYPE answer AS (
    kind text, why text, needs text, place bigint, now double precision,
    entry entries, before entries,
    counts integer[], waiting integer, new integer, tally jsonb,
    note_version bigint, note text, note_age double precision, open boolean
);

-- A lease as its holder tells of it: `space.Held`.
CREATE TYPE held AS (
    id text, version bigint, fence bigint, rid text, agent_version text, pinned boolean,
    conversation text, lease text, facts text, expires_in double precision,
    fresh_in double precision
);

-- A key's row while an operation works on it: read once, passed along, written once.
CREATE TYPE desk AS (
    id bigint, space integer, counts integer[], tally jsonb, open boolean, note text,
    note_version bigint, note_since double precision, cap bigint, max_waiting bigint,
    place bigint, memories bigint, present integer, standing integer, wanting integer,
    ends double precision, tombs double precision, calm boolean,
    longest_ttl double precision,
    now double precision,
    micros bigint,                -- the same in whole microseconds; 0 by a clock of the caller's
    rests_before double precision, -- what came into its state before is handed to nobody
    asker text,                   -- whose answer this is: it need not be rung
    touched text[],               -- conversations whose line must be looked at
    why text,                     -- what came of a change
    entry entries                 -- the entry that was changed or handed out last
);

CREATE TYPE claimed AS (
    host text, principal text, agent text, entry entries, now double precision,
    next_in double precision
);

CREATE TYPE reply AS (desk desk, answer answer);

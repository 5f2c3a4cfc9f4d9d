-- The tables of a store in a SQLite file, version 1. Instants are REAL seconds of the machine's
-- clock (`machine` says of which boot); one that never comes is 9e999, which SQLite keeps.

-- One row: the machine's boot and the file that all instants belong to.
CREATE TABLE machine (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    boot TEXT NOT NULL,
    inode INTEGER NOT NULL,
    ahead REAL NOT NULL -- the wall clock less the store's, when last looked at
);

-- One row per namespace. `calm_until`: what came into its state before `epoch_since` is handed to
-- nobody until then; NULL when nobody who knew an earlier epoch has come.
CREATE TABLE spaces (
    id INTEGER PRIMARY KEY,
    namespace TEXT NOT NULL UNIQUE,
    epoch TEXT NOT NULL,
    epoch_since REAL NOT NULL,
    calm_until REAL
);

-- One row per pool key, its counts kept as they change, so that nothing is ever counted.
CREATE TABLE keys (
    id INTEGER PRIMARY KEY,
    space INTEGER NOT NULL,
    host TEXT NOT NULL,
    principal TEXT NOT NULL,
    agent_rid TEXT NOT NULL,
    states TEXT NOT NULL,          -- JSON: entries by state
    tally TEXT NOT NULL,           -- JSON: running totals
    standing INTEGER NOT NULL,     -- requests in line
    wanting INTEGER NOT NULL,      -- those of them that stand for a free session
    present INTEGER NOT NULL,      -- rows in `waiters`: in line, or with something to fetch
    ends REAL NOT NULL,            -- nobody's patience ends before
    buried_until REAL NOT NULL,    -- no tombstone lasts longer
    cap INTEGER NOT NULL,
    max_waiting INTEGER NOT NULL,
    place INTEGER NOT NULL,        -- the last number given out in line
    remembered INTEGER NOT NULL,   -- the last number given to a memory
    calm INTEGER NOT NULL,         -- lines were last arranged as during a calm
    note TEXT NOT NULL,
    note_version INTEGER NOT NULL,
    noted_at REAL NOT NULL,
    open INTEGER NOT NULL,
    UNIQUE (space, host, principal, agent_rid)
);

CREATE TABLE entries (
    n INTEGER PRIMARY KEY,
    space INTEGER NOT NULL,
    key INTEGER NOT NULL,
    id TEXT NOT NULL,
    state TEXT NOT NULL,
    version INTEGER NOT NULL,
    fence INTEGER NOT NULL,
    rid TEXT NOT NULL,
    agent_version TEXT NOT NULL,
    pinned INTEGER NOT NULL,
    conversation TEXT,
    holder TEXT NOT NULL,
    lease TEXT NOT NULL,
    lapses REAL NOT NULL,
    since REAL NOT NULL,
    fresh_until REAL NOT NULL,
    expires REAL NOT NULL,
    deadline REAL NOT NULL,
    facts TEXT NOT NULL,
    op TEXT NOT NULL,
    hand_state TEXT,               -- how its hand-out is undone: state, deadline and place,
    hand_deadline REAL,
    hand_place INTEGER,
    hand_before TEXT,              -- and what it was before its holder wrote something (JSON)
    remembered INTEGER             -- its turn among the memories of its conversation
);
CREATE UNIQUE INDEX entries_id ON entries (space, id);
CREATE INDEX entries_own ON entries (key, conversation)
    WHERE conversation IS NOT NULL AND state NOT IN ('retiring', 'gone');
CREATE INDEX entries_memory ON entries (key, conversation, remembered)
    WHERE remembered IS NOT NULL;
CREATE INDEX entries_latest ON entries (key, expires, id)
    WHERE state IN ('idle', 'ageing') AND pinned = 0;
CREATE INDEX entries_version ON entries (key, agent_version, expires, id)
    WHERE state IN ('idle', 'ageing');
CREATE INDEX entries_lease ON entries (key, lease) WHERE lease <> '';
CREATE INDEX entries_state ON entries (key, state, since, id);
CREATE INDEX entries_rid ON entries (key, rid) WHERE rid <> '';
CREATE INDEX entries_due ON entries (space, deadline, id) WHERE deadline < 9e999;

-- Requests in line, and those that have not fetched what became of them. Who can be served stands
-- in a lane: that of its wish, or the one of those whose own session is there.
CREATE TABLE waiters (
    n INTEGER PRIMARY KEY,
    key INTEGER NOT NULL,
    request TEXT NOT NULL,
    place INTEGER NOT NULL,
    patience REAL NOT NULL,
    holder TEXT NOT NULL,
    conversation TEXT,
    version TEXT,
    wish_s REAL NOT NULL,
    ttl_s REAL NOT NULL,
    own_only INTEGER NOT NULL,
    lane TEXT,
    entry TEXT,                    -- id of what it was granted in line
    verdict TEXT,                  -- why it stands in line no more, though it was granted nothing
    bell TEXT NOT NULL,            -- where it last asked from
    known INTEGER NOT NULL         -- the note's version that it was last told
);
CREATE UNIQUE INDEX waiters_request ON waiters (key, request);
CREATE INDEX waiters_lane ON waiters (key, lane, place, request) WHERE lane IS NOT NULL;
CREATE INDEX waiters_talk ON waiters (key, conversation, place, request)
    WHERE conversation IS NOT NULL AND entry IS NULL AND verdict IS NULL;
CREATE INDEX waiters_first ON waiters (key, conversation)
    WHERE conversation IS NOT NULL AND lane IS NOT NULL;
CREATE INDEX waiters_patience ON waiters (key, patience, request) WHERE patience < 9e999;
CREATE INDEX waiters_bell ON waiters (bell);

CREATE TABLE tombstones (
    key INTEGER NOT NULL,
    request TEXT NOT NULL,
    ends REAL NOT NULL,
    PRIMARY KEY (key, request)
) WITHOUT ROWID;
CREATE INDEX tombstones_ends ON tombstones (key, ends);

CREATE TABLE shares (
    space INTEGER NOT NULL,
    principal TEXT NOT NULL,
    holder TEXT NOT NULL,
    granted REAL NOT NULL,
    wish REAL NOT NULL,
    most REAL NOT NULL,
    ends REAL NOT NULL,
    lacking_since INTEGER NOT NULL, -- its turn among those who got less than they wished for
    PRIMARY KEY (space, principal, holder)
) WITHOUT ROWID;

CREATE TABLE identities (
    space INTEGER NOT NULL,
    principal TEXT NOT NULL,
    identity TEXT NOT NULL,
    PRIMARY KEY (space, principal)
) WITHOUT ROWID;

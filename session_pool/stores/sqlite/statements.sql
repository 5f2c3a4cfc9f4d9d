-- Every statement that the engine runs again and again, by name. Each finds what it needs through
-- one index, named where the planner might choose another.

-- name: key
SELECT * FROM keys WHERE space = ? AND host = ? AND principal = ? AND agent_rid = ?
-- name: new_key
INSERT INTO keys (space, host, principal, agent_rid, states, tally, standing, wanting, present,
    ends, buried_until, cap, max_waiting, place, remembered, calm, note, note_version, noted_at,
    open)
VALUES (?, ?, ?, ?, '{}', '{}', 0, 0, 0, 9e999, 0.0, 0, 0, 0, 0, 0, '', 0, 0.0, 1)
-- name: save_key
UPDATE keys SET states = ?, tally = ?, standing = ?, wanting = ?, present = ?, ends = ?,
    buried_until = ?, cap = ?, max_waiting = ?, place = ?, remembered = ?, calm = ?
WHERE id = ?
-- name: save_note
UPDATE keys SET note = ?, note_version = ?, noted_at = ?, open = ? WHERE id = ?
-- name: name_of_key
SELECT host, principal, agent_rid FROM keys WHERE id = ?

-- name: entry
SELECT * FROM entries WHERE space = ? AND id = ?
-- name: by_lease
SELECT * FROM entries INDEXED BY entries_lease WHERE key = ? AND lease = ? AND lease <> ''
-- name: own
SELECT * FROM entries INDEXED BY entries_own
WHERE key = ? AND conversation = ? AND state NOT IN ('retiring', 'gone') LIMIT 1
-- name: memory
SELECT * FROM entries INDEXED BY entries_memory
WHERE key = ? AND conversation = ? AND remembered IS NOT NULL ORDER BY remembered DESC LIMIT 1
-- name: memories
SELECT * FROM entries INDEXED BY entries_memory
WHERE key = ? AND conversation = ? AND remembered IS NOT NULL ORDER BY remembered DESC
-- name: free_latest
SELECT * FROM entries INDEXED BY entries_latest
WHERE key = ? AND state IN ('idle', 'ageing') AND pinned = 0 AND expires >= ? AND since >= ?
ORDER BY expires, id LIMIT 1
-- name: free_version
SELECT * FROM entries INDEXED BY entries_version
WHERE key = ? AND state IN ('idle', 'ageing') AND agent_version = ? AND expires >= ?
    AND since >= ?
ORDER BY expires, id LIMIT 1
-- name: in_state
SELECT * FROM entries INDEXED BY entries_state
WHERE key = ? AND state = ? ORDER BY since, id LIMIT ?
-- name: of_rid
SELECT * FROM entries INDEXED BY entries_rid
WHERE key = ? AND rid = ? AND rid <> '' ORDER BY since, id
-- name: insert
INSERT INTO entries (space, key, id, state, version, fence, rid, agent_version, pinned,
    conversation, holder, lease, lapses, since, fresh_until, expires, deadline, facts, op,
    hand_state, hand_deadline, hand_place, hand_before, remembered)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
-- name: file
UPDATE entries SET state = ?, version = ?, fence = ?, rid = ?, agent_version = ?, pinned = ?,
    conversation = ?, holder = ?, lease = ?, lapses = ?, since = ?, fresh_until = ?, expires = ?,
    deadline = ?, facts = ?, op = ?, hand_state = ?, hand_deadline = ?, hand_place = ?,
    hand_before = ?, remembered = ?
WHERE n = ?
-- name: lease
UPDATE entries SET state = 'leased', version = ?, fence = ?, holder = ?, lease = ?, lapses = ?,
    since = ?, deadline = ?, op = ?, hand_state = ?, hand_deadline = ?, hand_place = ?,
    hand_before = NULL
WHERE n = ?
-- name: lease_bound
UPDATE entries SET state = 'leased', version = ?, fence = ?, holder = ?, lease = ?, lapses = ?,
    since = ?, deadline = ?, op = ?, hand_state = ?, hand_deadline = ?, hand_place = ?,
    hand_before = NULL, conversation = ?
WHERE n = ?
-- name: give_back
UPDATE entries SET state = ?, version = ?, holder = '', lease = '', lapses = 9e999, since = ?,
    fresh_until = ?, expires = ?, deadline = ?, facts = ?, op = ?, hand_state = NULL,
    hand_deadline = NULL, hand_place = NULL, hand_before = NULL, conversation = ?
WHERE n = ?
-- name: write_down
UPDATE entries SET version = ?, fresh_until = ?, expires = ?, deadline = ?, facts = ?, op = ?,
    hand_before = ?
WHERE n = ?
-- name: prolong
UPDATE entries SET lapses = ?, deadline = ? WHERE n = ?
-- name: put_off
UPDATE entries SET deadline = ? WHERE n = ?
-- name: delete
DELETE FROM entries WHERE n = ?
-- name: due
SELECT * FROM entries INDEXED BY entries_due
WHERE space = ? AND deadline < 9e999 AND deadline <= ? ORDER BY deadline, id LIMIT ?
-- name: next_due
SELECT deadline FROM entries INDEXED BY entries_due
WHERE space = ? AND deadline < 9e999 ORDER BY deadline LIMIT 1

-- name: waiter
SELECT * FROM waiters WHERE key = ? AND request = ?
-- name: stand
INSERT INTO waiters (key, request, place, patience, holder, conversation, version, wish_s, ttl_s,
    own_only, lane, entry, verdict, bell, known)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, NULL, ?, ?)
-- name: stand_again
UPDATE waiters SET entry = NULL, lane = ? WHERE n = ?
-- name: set_lane
UPDATE waiters SET lane = ? WHERE n = ?
-- name: granted
UPDATE waiters SET entry = ?, lane = NULL WHERE n = ?
-- name: dismissed
UPDATE waiters SET verdict = ?, lane = NULL WHERE n = ?
-- name: here_i_am
UPDATE waiters SET patience = ?, bell = ?, known = ? WHERE n = ?
-- name: leave
DELETE FROM waiters WHERE n = ?
-- name: next_lane
SELECT * FROM waiters INDEXED BY waiters_lane
WHERE key = ? AND lane IS NOT NULL AND lane > ? ORDER BY lane, place, request LIMIT 1
-- name: first_of_talk
SELECT * FROM waiters INDEXED BY waiters_talk
WHERE key = ? AND conversation = ? AND entry IS NULL AND verdict IS NULL
ORDER BY place, request LIMIT 1
-- name: promoted
SELECT * FROM waiters INDEXED BY waiters_first
WHERE key = ? AND conversation = ? AND lane IS NOT NULL
-- name: talks
SELECT DISTINCT conversation FROM waiters INDEXED BY waiters_talk
WHERE key = ? AND conversation IS NOT NULL AND entry IS NULL AND verdict IS NULL
-- name: silent
SELECT * FROM waiters INDEXED BY waiters_patience
WHERE key = ? AND patience < 9e999 AND patience <= ? ORDER BY patience, request
-- name: least_patience
SELECT min(patience) FROM waiters INDEXED BY waiters_patience
WHERE key = ? AND patience < 9e999
-- name: everybody
SELECT bell, request FROM waiters WHERE key = ? ORDER BY place, request
-- name: news
SELECT waiters.request FROM waiters INDEXED BY waiters_bell JOIN keys ON keys.id = waiters.key
WHERE bell = ?
    AND (entry IS NOT NULL OR verdict IS NOT NULL OR known <> note_version)

-- name: tombstone
SELECT ends FROM tombstones WHERE key = ? AND request = ?
-- name: bury
INSERT INTO tombstones (key, request, ends) VALUES (?, ?, ?)
ON CONFLICT (key, request) DO UPDATE SET ends = excluded.ends
-- name: unearth
DELETE FROM tombstones WHERE key = ? AND ends <= ?

-- name: shares
SELECT holder, granted, wish, most, lacking_since FROM shares
WHERE space = ? AND principal = ? AND ends > ?
-- name: clear_shares
DELETE FROM shares WHERE space = ? AND principal = ? AND (ends <= ? OR holder = ?)
-- name: ask_share
INSERT INTO shares (space, principal, holder, granted, wish, most, ends, lacking_since)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
-- name: identity
SELECT identity FROM identities WHERE space = ? AND principal = ?
-- name: identify
INSERT INTO identities (space, principal, identity) VALUES (?, ?, ?)

-- name: machine
SELECT boot, inode, ahead FROM machine
-- name: new_machine
INSERT INTO machine (one, boot, inode, ahead) VALUES (1, ?, ?, ?)
-- name: same_machine
UPDATE machine SET boot = ?, inode = ?, ahead = ?
-- name: enter
SELECT id, epoch, epoch_since, calm_until, boot, inode FROM spaces JOIN machine
WHERE namespace = ?
-- name: space
SELECT id, epoch, epoch_since, calm_until FROM spaces WHERE namespace = ?
-- name: new_space
INSERT INTO spaces (namespace, epoch, epoch_since, calm_until) VALUES (?, ?, ?, ?)
-- name: begin_epochs
UPDATE spaces SET epoch = lower(hex(randomblob(8))), epoch_since = ?, calm_until = NULL
-- name: keep_calm
UPDATE spaces SET calm_until = ? WHERE id = ?

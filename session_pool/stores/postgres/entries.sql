-- How the entries of one key are found, handed out, changed and taken back. Knows nothing of lines:
-- it only notes in `touched` whose conversation's line has to be looked at.

CREATE OR REPLACE FUNCTION nr(state_ text) RETURNS integer LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE state_
        WHEN 'creating' THEN 1 WHEN 'unsettled' THEN 2 WHEN 'idle' THEN 3 WHEN 'ageing' THEN 4
        WHEN 'leased' THEN 5 WHEN 'parked' THEN 6 WHEN 'quarantined' THEN 7
        WHEN 'retiring' THEN 8 WHEN 'gone' THEN 9 WHEN 'chore' THEN 10 END
$$;

-- What a conversation has.
CREATE OR REPLACE FUNCTION own(key_ bigint, talk_ text) RETURNS entries LANGUAGE plpgsql AS $$
DECLARE e entries;
BEGIN
    SELECT * INTO e FROM entries
        WHERE key = key_ AND conversation IS NOT NULL AND remembered IS NULL
            AND hashtextextended(conversation, 0) = hashtextextended(talk_, 0)
            AND conversation = talk_
        LIMIT 1;
    RETURN e;
END $$;

-- The session that a conversation had last.
CREATE OR REPLACE FUNCTION memory(key_ bigint, talk_ text) RETURNS entries LANGUAGE plpgsql AS $$
DECLARE e entries;
BEGIN
    IF talk_ IS NOT NULL THEN
        SELECT * INTO e FROM entries
            WHERE key = key_ AND conversation IS NOT NULL AND remembered IS NOT NULL
                AND hashtextextended(conversation, 0) = hashtextextended(talk_, 0)
                AND conversation = talk_
            ORDER BY remembered DESC LIMIT 1;
    END IF;
    RETURN e;
END $$;

-- The free session that ends first, of those of a version that live until then (B3).
CREATE OR REPLACE FUNCTION free(
    key_ bigint, version_ text, least_ double precision, rests_before_ double precision
) RETURNS entries LANGUAGE plpgsql AS $$
DECLARE e entries;
BEGIN
    IF version_ IS NULL THEN
        SELECT * INTO e FROM entries
            WHERE key = key_ AND state IN ('idle', 'ageing') AND NOT pinned
                AND expires >= least_ AND since >= rests_before_
            ORDER BY expires, id LIMIT 1;
    ELSE
        SELECT * INTO e FROM entries
            WHERE key = key_ AND state IN ('idle', 'ageing') AND agent_version = version_
                AND expires >= least_ AND since >= rests_before_
            ORDER BY expires, id LIMIT 1;
    END IF;
    RETURN e;
END $$;

-- Hand out what is free or parked; the entry is then in the desk.
CREATE OR REPLACE FUNCTION lease(
    k desk, e entries, holder_ text, talk_ text, ttl_ double precision, request_ text,
    place_ bigint
) RETURNS desk LANGUAGE plpgsql AS $$
DECLARE
    ends double precision := k.now + ttl_;
    n entries;
BEGIN
    UPDATE entries SET
        state = 'leased', version = e.version + 1, fence = greatest(e.fence + 1, k.micros),
        conversation = coalesce(e.conversation, talk_), holder = holder_, lease = request_,
        lapses = ends, since = k.now, deadline = ends, op = request_,
        queued = least(e.queued, ends), was = e.state, was_deadline = e.deadline, place = place_
        WHERE space = k.space AND id = e.id
        RETURNING * INTO n;
    k.entry := n;
    k.counts[nr(e.state)] := k.counts[nr(e.state)] - 1;
    k.counts[5] := k.counts[5] + 1;
    IF ttl_ > k.longest_ttl AND ttl_ < 'Infinity' THEN
        UPDATE spaces SET longest_ttl = ttl_ WHERE id = k.space AND longest_ttl < ttl_;
        k.longest_ttl := ttl_;
    END IF;
    RETURN k;
END $$;

-- Take back a lease that nobody saw: it is what it was before, but for its spent fence.
CREATE OR REPLACE FUNCTION undo(k desk, e entries) RETURNS desk LANGUAGE plpgsql AS $$
DECLARE written boolean := e.former_rid IS NOT NULL;
BEGIN
    IF e.was IS NULL THEN
        RETURN k;
    END IF;
    UPDATE entries SET
        state = e.was, version = e.version + 1, holder = '', lease = '', lapses = 'Infinity',
        since = k.now, op = '', deadline = e.was_deadline,
        queued = least(e.queued, e.was_deadline),
        conversation = CASE WHEN e.was IN ('idle', 'ageing') THEN NULL ELSE e.conversation END,
        rid = CASE WHEN written THEN e.former_rid ELSE e.rid END,
        agent_version = CASE WHEN written THEN e.former_version ELSE e.agent_version END,
        pinned = CASE WHEN written THEN e.former_pinned ELSE e.pinned END,
        fresh_until = CASE WHEN written THEN e.former_fresh ELSE e.fresh_until END,
        expires = CASE WHEN written THEN e.former_expires ELSE e.expires END,
        facts = CASE WHEN written THEN e.former_facts ELSE e.facts END,
        was = NULL, was_deadline = NULL, place = NULL, former_rid = NULL, former_version = NULL,
        former_pinned = NULL, former_fresh = NULL, former_expires = NULL, former_facts = NULL
        WHERE space = k.space AND id = e.id;
    k.counts[5] := k.counts[5] - 1;
    k.counts[nr(e.was)] := k.counts[nr(e.was)] + 1;
    IF e.conversation IS NOT NULL THEN
        k.touched := k.touched || e.conversation;
    END IF;
    RETURN k;
END $$;

-- A signed sum of counts is at most a number, for each guard (B8).
CREATE OR REPLACE FUNCTION guarded(k desk, guards_ jsonb) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    g jsonb;
    total double precision;
BEGIN
    FOR g IN SELECT * FROM jsonb_array_elements(guards_) LOOP
        SELECT coalesce(sum(sign * CASE name
                WHEN 'waiting' THEN k.standing
                WHEN 'new' THEN greatest(0, least(k.wanting, k.cap - k.counts[5]))
                ELSE coalesce(k.counts[nr(name)], 0) END), 0) INTO total
            FROM (SELECT 1 AS sign, jsonb_array_elements_text(g -> 0) AS name
                  UNION ALL SELECT -1, jsonb_array_elements_text(g -> 1)) AS terms;
        IF total > (g ->> 2)::double precision THEN
            RETURN false;
        END IF;
    END LOOP;
    RETURN true;
END $$;

-- A lease ends as most do, in one statement; null where it is another's, or not as plain as that.
CREATE OR REPLACE FUNCTION given_back(k desk, p change) RETURNS entries LANGUAGE plpgsql AS $$
DECLARE
    n entries;
    idle_ boolean := p.state = 'idle';
    due double precision := k.now + p.deadline_in;
BEGIN
    UPDATE entries SET
        state = p.state, version = version + 1, op = p.op, holder = '', lease = '',
        lapses = 'Infinity', since = k.now, facts = coalesce(p.facts, facts),
        conversation = CASE WHEN idle_ THEN NULL ELSE conversation END,
        deadline = CASE WHEN idle_ THEN least(due, fresh_until) ELSE coalesce(due, fresh_until) END,
        queued = least(queued,
            CASE WHEN idle_ THEN least(due, fresh_until) ELSE coalesce(due, fresh_until) END),
        was = NULL, was_deadline = NULL, place = NULL, former_rid = NULL, former_version = NULL,
        former_pinned = NULL, former_fresh = NULL, former_expires = NULL, former_facts = NULL
        WHERE space = k.space AND id = p.id AND key = k.id AND state = 'leased'
            AND fence = p.fence AND lapses > k.now AND op <> p.op
            -- Whoever waits for what a conversation has must hear that it has it no more.
            AND (conversation IS NULL OR NOT idle_ OR k.present = 0)
        RETURNING * INTO n;
    RETURN n;
END $$;

-- One change by compare-and-set: `why` says what came of it, and `entry` holds it as it is then.
CREATE OR REPLACE FUNCTION change(k desk, p change) RETURNS desk LANGUAGE plpgsql AS $$
DECLARE
    e entries;
    was_ text;
    fresh double precision;
    due double precision;
    amount record;
    n entries;
BEGIN
    IF p.fence IS NOT NULL AND p.state IN ('idle', 'parked') AND p.expires_in IS NULL
        AND p.fresh_in IS NULL AND p.rid IS NULL AND p.agent_version IS NULL AND p.pinned IS NULL
        AND NOT p.unbind AND p.guards IS NULL AND p.tally IS NULL THEN
        n := given_back(k, p);
        IF n.id IS NOT NULL THEN
            k.why := 'done';
            k.entry := n;
            k.counts[5] := k.counts[5] - 1;
            k.counts[nr(p.state)] := k.counts[nr(p.state)] + 1;
            IF n.conversation IS NOT NULL AND k.present > 0 THEN
                k.touched := k.touched || n.conversation;
            END IF;
            RETURN k;
        END IF;
    END IF;
    k.entry := NULL;
    SELECT * INTO e FROM entries WHERE space = k.space AND id = p.id;
    was_ := e.state;
    IF e.id IS NULL OR e.key <> k.id THEN
        IF e.id IS NOT NULL OR p.version IS NOT NULL OR p.fence IS NOT NULL THEN
            k.why := 'absent';
            RETURN k;
        END IF;
    ELSIF e.op = p.op THEN
        k.why := 'done';
        k.entry := e;
        RETURN k;
    ELSIF p.fence IS NOT NULL AND (e.state <> 'leased' OR e.fence <> p.fence)
        OR p.fence IS NULL AND e.version IS DISTINCT FROM p.version THEN
        k.why := 'changed';
        RETURN k;
    ELSIF p.fence IS NOT NULL AND e.lapses <= k.now THEN
        k.why := 'lapsed';
        RETURN k;
    END IF;
    IF p.state = 'leased' AND was_ IS DISTINCT FROM 'leased' THEN  -- only a take leases
        k.why := 'changed';
        RETURN k;
    END IF;
    IF p.guards IS NOT NULL AND NOT guarded(k, p.guards) THEN
        k.why := 'guard';
        RETURN k;
    END IF;
    IF p.tally IS NOT NULL THEN
        FOR amount IN SELECT t ->> 0 AS name, (t -> 1)::bigint AS number
                FROM jsonb_array_elements(p.tally) AS t LOOP
            k.tally := k.tally || jsonb_build_object(amount.name,
                coalesce((k.tally ->> amount.name)::bigint, 0) + amount.number);
        END LOOP;
    END IF;
    k.why := 'done';
    IF was_ IS NOT NULL THEN
        k.counts[nr(was_)] := k.counts[nr(was_)] - 1;
        IF e.conversation IS NOT NULL AND k.present > 0 THEN
            k.touched := k.touched || e.conversation;
        END IF;
    END IF;
    IF p.state IS NULL THEN
        IF was_ IS NOT NULL THEN
            DELETE FROM entries WHERE space = k.space AND id = p.id;
        END IF;
        RETURN k;
    END IF;
    k.counts[nr(p.state)] := k.counts[nr(p.state)] + 1;
    IF was_ IS NULL THEN
        e.id := p.id; e.state := 'chore'; e.version := 0; e.fence := 0; e.rid := '';
        e.agent_version := ''; e.pinned := false; e.holder := ''; e.lease := '';
        e.lapses := 'Infinity'; e.since := k.now; e.fresh_until := 'Infinity';
        e.expires := 'Infinity'; e.deadline := 'Infinity'; e.facts := ''; e.op := '';
        e.space := k.space; e.key := k.id; e.queued := 'Infinity';
    END IF;
    n := e;
    n.state := p.state;
    n.version := e.version + 1;
    n.op := p.op;
    fresh := coalesce(k.now + p.fresh_in, e.fresh_until);
    n.fresh_until := fresh;
    IF p.state <> e.state THEN
        n.since := k.now;
    END IF;
    IF p.state = 'leased' THEN
        n.deadline := e.lapses;
        IF e.was IS NOT NULL AND e.former_rid IS NULL THEN
            n.former_rid := e.rid; n.former_version := e.agent_version;
            n.former_pinned := e.pinned; n.former_fresh := e.fresh_until;
            n.former_expires := e.expires; n.former_facts := e.facts;
        END IF;
    ELSE
        n.holder := ''; n.lease := ''; n.lapses := 'Infinity';
        due := CASE WHEN p.deadline_in IS NOT NULL THEN k.now + p.deadline_in
            WHEN e.state = 'leased' THEN fresh ELSE e.deadline END;
        n.deadline := CASE WHEN p.state = 'idle' THEN least(due, fresh) ELSE due END;
        n.was := NULL; n.was_deadline := NULL; n.place := NULL; n.former_rid := NULL;
        n.former_version := NULL; n.former_pinned := NULL; n.former_fresh := NULL;
        n.former_expires := NULL; n.former_facts := NULL;
    END IF;
    n.queued := least(e.queued, n.deadline);
    IF p.expires_in IS NOT NULL THEN
        n.expires := k.now + p.expires_in;
    END IF;
    n.facts := coalesce(p.facts, e.facts);
    n.rid := coalesce(p.rid, e.rid);
    n.agent_version := coalesce(p.agent_version, e.agent_version);
    n.pinned := coalesce(p.pinned, e.pinned);
    IF p.unbind OR p.state IN ('idle', 'ageing') THEN
        n.conversation := NULL;
    END IF;
    IF p.state NOT IN ('retiring', 'gone') OR n.conversation IS NULL THEN
        n.remembered := NULL;
    ELSIF e.remembered IS NULL THEN
        k.memories := k.memories + 1;
        n.remembered := k.memories;
    END IF;
    k := filed(k, n, was_ IS NULL);
    RETURN k;
END $$;

-- Write an entry as it is to be.
CREATE OR REPLACE FUNCTION filed(k desk, n entries, anew boolean)
RETURNS desk LANGUAGE plpgsql AS $$
BEGIN
    IF anew THEN
        INSERT INTO entries SELECT n.*;
    ELSE
        UPDATE entries SET
            state = n.state, version = n.version, fence = n.fence, rid = n.rid,
            agent_version = n.agent_version, pinned = n.pinned, conversation = n.conversation,
            holder = n.holder, lease = n.lease, lapses = n.lapses, since = n.since,
            fresh_until = n.fresh_until, expires = n.expires, deadline = n.deadline,
            facts = n.facts, op = n.op, queued = n.queued, remembered = n.remembered,
            was = n.was, was_deadline = n.was_deadline, place = n.place,
            former_rid = n.former_rid, former_version = n.former_version,
            former_pinned = n.former_pinned, former_fresh = n.former_fresh,
            former_expires = n.former_expires, former_facts = n.former_facts
            WHERE space = n.space AND id = n.id;
    END IF;
    k.entry := n;
    RETURN k;
END $$;

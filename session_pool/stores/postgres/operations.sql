-- What the store calls: each is one transaction, and locks a key's row before anything else. Whoever
-- needs several keys locks them in the order of their ids.
--
-- An instance names the epoch that it knows; if there is another by now, or the server was started
-- again, nothing is done and the error SPE01 says so (B27).

CREATE OR REPLACE FUNCTION seconds(clock_ double precision)
RETURNS double precision LANGUAGE sql AS $$
    SELECT coalesce(clock_, extract(epoch FROM clock_timestamp())::double precision)
$$;

CREATE OR REPLACE FUNCTION another_epoch() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'another epoch' USING ERRCODE = 'SPE01';
END $$;

CREATE OR REPLACE FUNCTION same_epoch(space_ integer, epoch_ text)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM spaces
            WHERE id = space_ AND epoch = epoch_ AND server = pg_postmaster_start_time()) THEN
        PERFORM another_epoch();
    END IF;
END $$;

-- Lock a key's row and read it. Settled it is not.
CREATE OR REPLACE FUNCTION locked(
    space_ integer, epoch_ text, clock_ double precision, host_ text, principal_ text, agent_ text
) RETURNS desk LANGUAGE plpgsql AS $$
DECLARE k desk;
BEGIN
    FOR attempt IN 1..2 LOOP
        SELECT t.id, t.space, t.counts, t.tally, t.open, t.note, t.note_version, t.note_since,
                t.cap, t.max_waiting, t.place, t.memories, t.present, t.standing, t.wanting,
                t.ends, t.tombs, t.calm, s.longest_ttl, s.since, s.calm_until
            INTO k.id, k.space, k.counts, k.tally, k.open, k.note, k.note_version, k.note_since,
                k.cap, k.max_waiting, k.place, k.memories, k.present, k.standing, k.wanting,
                k.ends, k.tombs, k.calm, k.longest_ttl, k.rests_before, k.now
            FROM keys t JOIN spaces s ON s.id = t.space
            WHERE t.space = space_ AND t.host = host_ AND t.principal = principal_
                AND t.agent = agent_
                AND s.epoch = epoch_ AND s.server = pg_postmaster_start_time()
            FOR UPDATE OF t;
        EXIT WHEN FOUND;
        PERFORM same_epoch(space_, epoch_);
        INSERT INTO keys (space, host, principal, agent)
            VALUES (space_, host_, principal_, agent_) ON CONFLICT DO NOTHING;
    END LOOP;
    IF k.id IS NULL THEN
        PERFORM another_epoch();
    END IF;
    IF clock_ IS NULL THEN
        IF k.now <= seconds(NULL) THEN
            k.rests_before := '-Infinity';
        END IF;
        k.now := seconds(NULL);
        k.micros := (k.now * 1000000)::bigint;
    ELSE
        IF k.now <= clock_ THEN
            k.rests_before := '-Infinity';
        END IF;
        k.now := clock_;
        k.micros := 0;
    END IF;
    k.touched := '{}';
    RETURN k;
END $$;

CREATE OR REPLACE FUNCTION settled(
    space_ integer, epoch_ text, clock_ double precision, host_ text, principal_ text, agent_ text
) RETURNS desk LANGUAGE plpgsql AS $$
DECLARE k desk := locked(space_, epoch_, clock_, host_, principal_, agent_);
BEGIN
    IF k.ends <= k.now OR k.calm THEN
        k := settle(k);
    END IF;
    RETURN k;
END $$;

CREATE OR REPLACE FUNCTION written(k desk) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE keys SET
        counts = k.counts, tally = k.tally, open = k.open, note = k.note,
        note_version = k.note_version, note_since = k.note_since, cap = k.cap,
        max_waiting = k.max_waiting, place = k.place, memories = k.memories,
        present = k.present, standing = k.standing, wanting = k.wanting, ends = k.ends,
        tombs = k.tombs, calm = k.calm
        WHERE id = k.id;
END $$;

-- Answer questions about one key, one after the other, as one transaction.
CREATE OR REPLACE FUNCTION run(
    space_ integer, epoch_ text, clock_ double precision, host_ text, principal_ text, agent_ text,
    bell_ text, questions question[]
) RETURNS SETOF answer LANGUAGE plpgsql SET search_path = session_pool, pg_temp AS $$
DECLARE
    k desk := settled(space_, epoch_, clock_, host_, principal_, agent_);
    q question;
    r reply;
    a answer;
BEGIN
    FOREACH q IN ARRAY questions LOOP
        a := NULL;
        IF q.kind = 'take' THEN
            r := take(k, q, bell_);
            k := r.desk;
            a := r.answer;
        ELSIF q.kind = 'put' THEN
            k := change(k, q.put);
            a.kind := CASE WHEN k.why = 'done' THEN 'done' ELSE 'not' END;
            a.why := k.why;
            a.entry := k.entry;
            IF k.present > 0 THEN
                k := serve(k);
            END IF;
        ELSIF q.kind = 'withdraw' THEN
            k := withdraw(k, q.request);
        ELSIF q.kind = 'note' AND q.note_version = k.note_version THEN
            k.note := q.note;
            k.note_version := k.note_version + 1;
            k.note_since := k.now;
            k.open := q.open;
            PERFORM pg_notify(bell, request) FROM waiters WHERE key = k.id;
            k := serve(k);
        END IF;
        IF q.kind <> 'take' OR a.kind = 'refusal' THEN
            a.note := k.note;
            a.note_age := k.now - k.note_since;
            a.open := k.open;
        END IF;
        a.note_version := k.note_version;
        a.now := k.now;
        a.counts := k.counts;
        a.waiting := k.standing;
        a.new := greatest(0, least(k.wanting, k.cap - k.counts[5]));
        a.tally := k.tally;
        RETURN NEXT a;
    END LOOP;
    PERFORM written(k);
END $$;

-- Entries by state, those longest in it first; or what a conversation has and had.
CREATE OR REPLACE FUNCTION find(
    space_ integer, epoch_ text, clock_ double precision, host_ text, principal_ text, agent_ text,
    states_ text[], talk_ text, rid_ text, most_ bigint
) RETURNS SETOF entries LANGUAGE plpgsql SET search_path = session_pool, pg_temp AS $$
DECLARE k desk := settled(space_, epoch_, clock_, host_, principal_, agent_);
BEGIN
    PERFORM written(k);
    IF talk_ IS NOT NULL THEN
        RETURN QUERY SELECT * FROM entries
            WHERE key = k.id AND conversation = talk_
                AND hashtextextended(conversation, 0) = hashtextextended(talk_, 0)
                AND (states_ = '{}' OR state = ANY (states_)) AND (rid_ IS NULL OR rid = rid_)
            ORDER BY remembered DESC NULLS FIRST LIMIT most_;
    ELSIF rid_ IS NOT NULL THEN
        RETURN QUERY SELECT * FROM entries
            WHERE key = k.id AND rid = rid_ AND (states_ = '{}' OR state = ANY (states_))
            ORDER BY since, id LIMIT most_;
    ELSE  -- as many of each state as there could be of all, so that no state is read through
        RETURN QUERY SELECT e.* FROM unnest(states_) AS s (state) CROSS JOIN LATERAL (
                SELECT * FROM entries WHERE key = k.id AND state = s.state
                ORDER BY since, id LIMIT most_) AS e
            ORDER BY e.since, e.id LIMIT most_;
    END IF;
END $$;

-- Prolong a process's leases.
CREATE OR REPLACE FUNCTION renew(
    space_ integer, epoch_ text, clock_ double precision, holder_ text, ids_ text[],
    fences_ bigint[], ttl_ double precision
) RETURNS boolean[] LANGUAGE plpgsql SET search_path = session_pool, pg_temp AS $$
DECLARE
    now_ double precision;
    done_ text[];
BEGIN
    PERFORM same_epoch(space_, epoch_);
    PERFORM FROM keys WHERE id IN (
        SELECT key FROM entries WHERE space = space_ AND id = ANY (ids_)) ORDER BY id FOR UPDATE;
    now_ := seconds(clock_);
    WITH prolonged AS (
        UPDATE entries e SET lapses = now_ + ttl_, deadline = now_ + ttl_,
            queued = least(queued, now_ + ttl_)
            FROM unnest(ids_, fences_) AS asked (id, fence)
            WHERE e.space = space_ AND e.id = asked.id AND e.fence = asked.fence
                AND e.state = 'leased' AND e.holder = holder_ AND e.lapses > now_
            RETURNING e.id || ' ' || e.fence AS name
    ) SELECT coalesce(array_agg(name), '{}') INTO done_ FROM prolonged;
    RETURN (SELECT array_agg(id || ' ' || fence = ANY (done_) ORDER BY n)
        FROM unnest(ids_, fences_) WITH ORDINALITY AS asked (id, fence, n));
END $$;

-- Tell which leases of one key a process holds.
CREATE OR REPLACE FUNCTION register(
    space_ integer, epoch_ text, clock_ double precision, host_ text, principal_ text, agent_ text,
    holder_ text, leases_ held[], ttl_ double precision
) RETURNS SETOF entries LANGUAGE plpgsql SET search_path = session_pool, pg_temp AS $$
DECLARE
    k desk := settled(space_, epoch_, clock_, host_, principal_, agent_);
    h held;
    e entries;
    n entries;
    was_ text;
BEGIN
    FOREACH h IN ARRAY leases_ LOOP
        SELECT * INTO e FROM entries WHERE space = space_ AND id = h.id;
        was_ := e.state;
        IF was_ IS NOT NULL AND (e.key <> k.id OR was_ IN ('retiring', 'gone')
                OR was_ = 'leased' AND (e.lease <> h.lease OR e.lapses <= k.now)) THEN
            n := NULL;
            RETURN NEXT n;
            CONTINUE;
        END IF;
        n := e;
        IF was_ IS DISTINCT FROM 'leased' THEN
            n.space := k.space; n.key := k.id; n.id := h.id; n.state := 'leased';
            n.version := greatest(coalesce(e.version, 0), h.version) + 1;
            n.fence := greatest(coalesce(e.fence, 0) + 1, h.fence + 1, k.micros);
            n.rid := h.rid; n.agent_version := h.agent_version; n.pinned := h.pinned;
            n.holder := holder_; n.lease := h.lease; n.op := h.lease; n.since := k.now;
            n.fresh_until := k.now + h.fresh_in; n.expires := k.now + h.expires_in;
            n.facts := h.facts;
            IF e.conversation IS NULL AND (own(k.id, h.conversation)).id IS NULL THEN
                n.conversation := h.conversation;
            END IF;
            IF coalesce(e.rid, '') = '' THEN  -- an older state may have it without its session yet
                k.tally := k.tally || jsonb_build_object('adopted',
                    coalesce((k.tally ->> 'adopted')::bigint, 0) + 1);
            END IF;
            IF was_ IS NOT NULL THEN
                k.counts[nr(was_)] := k.counts[nr(was_)] - 1;
            END IF;
            k.counts[5] := k.counts[5] + 1;
        END IF;
        n.lapses := k.now + ttl_;
        n.deadline := n.lapses;
        n.queued := least(e.queued, n.deadline);
        k := filed(k, n, was_ IS NULL);
        IF n.conversation IS NOT NULL THEN
            k.touched := k.touched || n.conversation;
        END IF;
        RETURN NEXT n;
    END LOOP;
    PERFORM written(serve(k));
END $$;

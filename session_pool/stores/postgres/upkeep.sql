-- What goes across keys: deadlines, shares of a principal's limit, identities, epochs.

-- Claim entries whose deadline has passed; the last row tells the time and the next deadline.
CREATE OR REPLACE FUNCTION due(
    space_ integer, epoch_ text, clock_ double precision, most_ bigint, for_ double precision
) RETURNS SETOF claimed LANGUAGE plpgsql SET search_path = session_pool, pg_temp AS $$
DECLARE
    now_ double precision := seconds(clock_);
    keys_ bigint[];
    ids_ text[];
    c claimed;
    e entries;
    next_ double precision := 'Infinity';
    read_ integer := 0;
BEGIN
    PERFORM same_epoch(space_, epoch_);
    SELECT array_agg(DISTINCT key), array_agg(id) INTO keys_, ids_ FROM (
        SELECT key, id FROM entries WHERE space = space_ AND queued < 'Infinity'
            AND queued <= now_ ORDER BY queued, id LIMIT most_ + 1000) AS early;
    IF ids_ IS NOT NULL THEN
        PERFORM FROM keys WHERE id = ANY (keys_) ORDER BY id FOR UPDATE;
        -- Their deadline has moved on since they were queued.
        UPDATE entries SET queued = deadline
            WHERE space = space_ AND id = ANY (ids_) AND key = ANY (keys_) AND queued < deadline;
        FOR e IN SELECT * FROM entries
                WHERE space = space_ AND queued < 'Infinity' AND queued <= now_
                    AND deadline <= now_ AND key = ANY (keys_)
                ORDER BY queued, id LIMIT most_ LOOP
            UPDATE entries SET deadline = now_ + for_, queued = now_ + for_
                WHERE space = space_ AND id = e.id;
            SELECT host, principal, agent INTO c.host, c.principal, c.agent
                FROM keys WHERE id = e.key;
            c.entry := e;
            RETURN NEXT c;
        END LOOP;
    END IF;
    FOR e IN SELECT * FROM entries WHERE space = space_ AND queued < 'Infinity'
            ORDER BY queued, id LIMIT 1000 LOOP
        EXIT WHEN e.queued >= next_;
        next_ := least(next_, e.deadline);
        read_ := read_ + 1;
    END LOOP;
    IF read_ = 1000 THEN  -- so far and no further: look again then
        next_ := least(next_, e.queued);
    END IF;
    c := NULL;
    c.now := now_;
    c.next_in := greatest(0, next_ - now_);
    RETURN NEXT c;
END $$;

-- Lease a part of a principal's limit (B13).
CREATE OR REPLACE FUNCTION share(
    space_ integer, epoch_ text, clock_ double precision, principal_ text, holder_ text,
    most_ double precision, wish_ double precision, for_ double precision,
    OUT granted_ double precision, OUT lacking_ double precision
) LANGUAGE plpgsql SET search_path = session_pool, pg_temp AS $$
DECLARE
    now_ double precision;
    last_ bigint;
    turn_ bigint;
    before_ double precision;
    free_ double precision;
    earlier_ double precision;
BEGIN
    PERFORM same_epoch(space_, epoch_);
    INSERT INTO principals (space, name) VALUES (space_, principal_) ON CONFLICT DO NOTHING;
    SELECT turn INTO last_ FROM principals WHERE space = space_ AND name = principal_ FOR UPDATE;
    now_ := seconds(clock_);
    DELETE FROM shares WHERE space = space_ AND principal = principal_ AND ends <= now_;
    DELETE FROM shares WHERE space = space_ AND principal = principal_ AND holder = holder_
        RETURNING granted, turn INTO before_, turn_;
    turn_ := coalesce(turn_, 0);
    SELECT least(most_, coalesce(min(most), most_)) - coalesce(sum(granted), 0),
            coalesce(sum(wish - granted) FILTER (
                WHERE turn > 0 AND (turn_ = 0 OR turn < turn_)), 0),
            coalesce(sum(wish - granted), 0)
        INTO free_, earlier_, lacking_
        FROM shares WHERE space = space_ AND principal = principal_;
    granted_ := greatest(0, least(free_, greatest(
        least(coalesce(before_, 0), wish_), least(wish_, free_ - earlier_))));
    IF granted_ >= wish_ THEN
        turn_ := 0;
    ELSIF turn_ = 0 THEN
        turn_ := last_ + 1;
        UPDATE principals SET turn = turn_ WHERE space = space_ AND name = principal_;
    END IF;
    IF wish_ > 0 THEN
        INSERT INTO shares VALUES (
            space_, principal_, holder_, granted_, wish_, most_, now_ + for_, turn_);
    END IF;
END $$;

-- Record whose token a principal uses, if nothing is recorded; what is.
CREATE OR REPLACE FUNCTION identify(space_ integer, epoch_ text, principal_ text, identity_ text)
RETURNS text LANGUAGE plpgsql SET search_path = session_pool, pg_temp AS $$
DECLARE known_ text;
BEGIN
    PERFORM same_epoch(space_, epoch_);
    INSERT INTO principals (space, name, identity) VALUES (space_, principal_, identity_)
        ON CONFLICT (space, name)
        DO UPDATE SET identity = coalesce(principals.identity, excluded.identity)
        RETURNING identity INTO known_;
    RETURN known_;
END $$;

-- Come in: which epoch is it, and does it have to begin now (B27)? `known_` is the epoch that the
-- caller knew, null for one that is new here; `ttl_` its longest finite lease.
CREATE OR REPLACE FUNCTION enter(
    name_ text, known_ text, ttl_ double precision, clock_ double precision, fresh_ text,
    OUT space_ integer, OUT epoch_ text
) LANGUAGE plpgsql SET search_path = session_pool, pg_temp AS $$
DECLARE
    s spaces;
    now_ double precision := seconds(clock_);
    server_ timestamptz := pg_postmaster_start_time();
    rest_ double precision := greatest(1, ttl_);
BEGIN
    INSERT INTO spaces (name, epoch, since, calm_until, marked, longest_ttl, server)
        VALUES (name_, fresh_, now_,
            CASE WHEN known_ IS NULL THEN '-Infinity' ELSE now_ + rest_ END,
            known_ IS NOT NULL, ttl_, server_)
        ON CONFLICT (name) DO NOTHING;
    SELECT * INTO s FROM spaces WHERE name = name_ FOR UPDATE;
    now_ := seconds(clock_);
    IF s.server <> server_ THEN
        -- Started again: what was written last may be lost, or this is an older state.
        s.epoch := fresh_;
        UPDATE spaces SET epoch = fresh_, since = now_, marked = true, server = server_,
            calm_until = now_ + greatest(rest_, s.longest_ttl) WHERE id = s.id;
        DELETE FROM tombstones t USING keys WHERE keys.space = s.id AND t.key = keys.id;
        DELETE FROM waiters w USING keys WHERE keys.space = s.id AND w.key = keys.id;
        UPDATE keys SET present = 0, standing = 0, wanting = 0, ends = 'Infinity',
            tombs = '-Infinity', calm = false WHERE keys.space = s.id;
    ELSIF known_ <> s.epoch AND NOT s.marked THEN
        -- Begun by somebody to whom all was new; not so to this caller.
        UPDATE spaces SET marked = true, calm_until = now_ + rest_ WHERE id = s.id;
    END IF;
    space_ := s.id;
    epoch_ := s.epoch;
END $$;

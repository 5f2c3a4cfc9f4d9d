-- Who waits for a key, in which line, and how waiters are served.
--
-- A waiter stands where it can be served, and in one such line only. The head of a conversation,
-- and everybody without one, stands in the line of its wish; or in the line `own`, if its session is
-- parked and only room is missing. Who comes behind the head of its conversation, or whose session
-- is held, stands in no line. So serving looks at one head per wish, never along a line.

CREATE OR REPLACE FUNCTION ring(k desk, w waiters) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF w.request IS DISTINCT FROM k.asker THEN
        PERFORM pg_notify(w.bell, w.request);
    END IF;
END $$;

-- Why the session that a conversation has, or has not, can never serve what is wanted.
CREATE OR REPLACE FUNCTION vain(k desk, talk_ text, version_ text, own_only_ boolean, own_ entries)
RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    IF talk_ IS NULL THEN
        RETURN NULL;
    ELSIF own_.id IS NULL THEN
        -- What there was before the epoch may have been its own.
        RETURN CASE WHEN own_only_ AND k.rests_before = '-Infinity' THEN 'empty' END;
    END IF;
    RETURN CASE WHEN version_ <> own_.agent_version THEN 'version' END;
END $$;

-- What a request waits for.
CREATE OR REPLACE FUNCTION needed(k desk, talk_ text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE own_ entries;
BEGIN
    IF talk_ IS NOT NULL THEN
        own_ := own(k.id, talk_);
        IF own_.id IS NULL AND k.rests_before > '-Infinity'
            OR own_.id IS NOT NULL AND (own_.state <> 'parked' OR own_.since < k.rests_before) THEN
            RETURN 'own';
        END IF;
    END IF;
    IF k.counts[5] >= k.cap THEN
        RETURN 'room';
    END IF;
    RETURN CASE WHEN own_.id IS NULL THEN 'new' ELSE 'own' END;
END $$;

-- Stand in another line, or in none.
CREATE OR REPLACE FUNCTION queue(k desk, w waiters, line_ text) RETURNS desk LANGUAGE plpgsql AS $$
BEGIN
    IF w.line IS DISTINCT FROM line_ THEN
        UPDATE waiters SET line = line_ WHERE key = k.id AND request = w.request;
        k.wanting := k.wanting + CASE WHEN line_ = 'wish' THEN 1 ELSE 0 END
            - CASE WHEN w.line = 'wish' THEN 1 ELSE 0 END;
    END IF;
    RETURN k;
END $$;

-- Stand in line no more, for a grant or a verdict; the next of the conversation moves up.
CREATE OR REPLACE FUNCTION step_out(k desk, w waiters, granted_ text, verdict_ text)
RETURNS desk LANGUAGE plpgsql AS $$
BEGIN
    UPDATE waiters SET standing = false, line = NULL, granted = granted_, verdict = verdict_
        WHERE key = k.id AND request = w.request;
    k.standing := k.standing - 1;
    IF w.line = 'wish' THEN
        k.wanting := k.wanting - 1;
    END IF;
    PERFORM ring(k, w);
    RETURN k;
END $$;

-- Let the first of a conversation, and nobody else of it, stand where it can be served; tell who
-- waits in vain.
CREATE OR REPLACE FUNCTION promote(k desk, talk_ text) RETURNS desk LANGUAGE plpgsql AS $$
DECLARE
    w waiters;
    head waiters;
    own_ entries := own(k.id, talk_);
    why_ text;
    line_ text;
BEGIN
    LOOP
        head := NULL;
        FOR w IN SELECT * FROM waiters
                WHERE key = k.id AND standing AND conversation = talk_
                    AND hashtextextended(conversation, 0) = hashtextextended(talk_, 0)
                ORDER BY place, request LIMIT 2 LOOP
            IF head.request IS NULL THEN
                head := w;
            ELSE  -- who was first until somebody with an earlier number came
                k := queue(k, w, NULL);
            END IF;
        END LOOP;
        IF head.request IS NULL THEN
            RETURN k;
        END IF;
        why_ := vain(k, talk_, head.version, head.own_only, own_);
        EXIT WHEN why_ IS NULL;
        k := step_out(k, head, NULL, why_);
    END LOOP;
    IF own_.id IS NULL AND k.rests_before > '-Infinity' OR own_.since < k.rests_before THEN
        k.calm := true;  -- looked at again when the calm is over
        line_ := NULL;
    ELSIF own_.id IS NULL THEN
        line_ := 'wish';
    ELSIF own_.state = 'parked' THEN
        line_ := 'own';
    END IF;
    RETURN queue(k, head, line_);
END $$;

-- Grant what can be granted, the earliest first (B6). Every operation ends with it.
CREATE OR REPLACE FUNCTION serve(k desk) RETURNS desk LANGUAGE plpgsql AS $$
DECLARE
    talk_ text;
    head waiters;
    best waiters;
    e entries;
    found_ entries;
    kind_ text;
    wish_ double precision;
BEGIN
    IF k.present = 0 THEN
        k.touched := '{}';
        RETURN k;
    END IF;
    LOOP
        FOREACH talk_ IN ARRAY k.touched LOOP
            k := promote(k, talk_);
        END LOOP;
        k.touched := '{}';
        EXIT WHEN NOT k.open OR k.counts[5] >= k.cap OR k.standing = 0;
        SELECT * INTO best FROM waiters WHERE key = k.id AND line = 'own'
            ORDER BY place, request LIMIT 1;
        IF FOUND THEN
            found_ := own(k.id, best.conversation);
        END IF;
        kind_ := '';
        wish_ := '-Infinity';
        WHILE k.wanting > 0 LOOP  -- from the head of one wish to the head of the next
            SELECT * INTO head FROM waiters
                WHERE key = k.id AND line = 'wish' AND (kind, wish) > (kind_, wish_)
                ORDER BY kind, wish, place, request LIMIT 1;
            EXIT WHEN NOT FOUND;
            kind_ := head.kind;
            wish_ := head.wish;
            CONTINUE WHEN (head.place, head.request) > (best.place, best.request);
            e := free(k.id, head.version, k.now + head.wish, k.rests_before);
            IF e.id IS NOT NULL THEN
                best := head;
                found_ := e;
            END IF;
        END LOOP;
        EXIT WHEN best.request IS NULL;
        k := lease(k, found_, best.holder, best.conversation, best.ttl, best.request, best.place);
        k := step_out(k, best, found_.id, NULL);
        IF best.conversation IS NOT NULL THEN
            k.touched := ARRAY[best.conversation];
        END IF;
    END LOOP;
    RETURN k;
END $$;

-- A request goes, and with it what it was granted.
CREATE OR REPLACE FUNCTION leave(k desk, w waiters) RETURNS desk LANGUAGE plpgsql AS $$
DECLARE e entries;
BEGIN
    DELETE FROM waiters WHERE key = k.id AND request = w.request;
    k.present := k.present - 1;
    IF w.standing THEN
        k.standing := k.standing - 1;
        IF w.line = 'wish' THEN
            k.wanting := k.wanting - 1;
        END IF;
        IF w.conversation IS NOT NULL THEN
            k.touched := k.touched || w.conversation;
        END IF;
    ELSIF w.granted IS NOT NULL THEN
        SELECT * INTO e FROM entries WHERE space = k.space AND id = w.granted;
        IF e.lease = w.request THEN
            k := undo(k, e);
        END IF;
    END IF;
    RETURN k;
END $$;

-- Silent waiters leave, grants that nobody came for are undone, and others get them.
CREATE OR REPLACE FUNCTION settle(k desk) RETURNS desk LANGUAGE plpgsql AS $$
DECLARE w waiters;
BEGIN
    IF k.calm AND k.rests_before = '-Infinity' THEN
        k.calm := false;
        SELECT k.touched || coalesce(array_agg(DISTINCT conversation), '{}') INTO k.touched
            FROM waiters WHERE key = k.id AND standing AND line IS NULL;
    END IF;
    IF k.ends <= k.now THEN
        FOR w IN SELECT * FROM waiters
                WHERE key = k.id AND patience <= k.now AND patience < 'Infinity' LOOP
            k := leave(k, w);
        END LOOP;
        SELECT coalesce(min(patience), 'Infinity') INTO k.ends
            FROM waiters WHERE key = k.id AND patience < 'Infinity';
    END IF;
    RETURN serve(k);
END $$;

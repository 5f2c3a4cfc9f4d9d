-- Requests for a key: asking, asking again, taking back. See `Store.take` and `Store.withdraw`.

CREATE OR REPLACE FUNCTION granted(k desk, e entries) RETURNS reply LANGUAGE plpgsql AS $$
DECLARE r reply;
BEGIN
    r.desk := k;
    r.answer.kind := 'grant';
    r.answer.entry := e;
    r.answer.place := coalesce(e.place, 0);
    r.answer.before := memory(k.id, e.conversation);
    RETURN r;
END $$;

CREATE OR REPLACE FUNCTION refused(k desk, why_ text, needs_ text)
RETURNS reply LANGUAGE plpgsql AS $$
DECLARE r reply;
BEGIN
    r.desk := k;
    r.answer.kind := 'refusal';
    r.answer.why := why_;
    r.answer.needs := needs_;
    RETURN r;
END $$;

CREATE OR REPLACE FUNCTION ticket(k desk, place_ bigint, needs_ text)
RETURNS reply LANGUAGE plpgsql AS $$
DECLARE r reply;
BEGIN
    r.desk := k;
    r.answer.kind := 'ticket';
    r.answer.place := place_;
    r.answer.needs := needs_;
    RETURN r;
END $$;

-- What was granted in line is fetched.
CREATE OR REPLACE FUNCTION fetched(k desk, w waiters) RETURNS reply LANGUAGE plpgsql AS $$
DECLARE e entries;
BEGIN
    DELETE FROM waiters WHERE key = k.id AND request = w.request;
    k.present := k.present - 1;
    SELECT * INTO e FROM entries WHERE space = k.space AND id = w.granted;
    RETURN granted(k, e);
END $$;

CREATE OR REPLACE FUNCTION tombstone(k desk, request_ text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    RETURN k.tombs > k.now AND EXISTS (
        SELECT FROM tombstones WHERE key = k.id AND request = request_ AND ends > k.now);
END $$;

-- A request that is not in line: served, refused, or given a place.
CREATE OR REPLACE FUNCTION arrive(k desk, q question, bell_ text)
RETURNS reply LANGUAGE plpgsql AS $$
DECLARE
    e entries;
    own_ entries;
    w waiters;
    why_ text;
    needs_ text;
BEGIN
    IF tombstone(k, q.request) THEN
        RETURN refused(k, 'withdrawn', 'new');
    END IF;
    SELECT * INTO e FROM entries WHERE key = k.id AND lease = q.request AND lease <> '';
    IF FOUND THEN  -- asked again, after the answer was lost
        IF e.lapses > k.now THEN
            RETURN granted(k, e);
        END IF;
        RETURN refused(k, 'withdrawn', 'new');
    END IF;
    IF NOT k.open THEN
        RETURN refused(k, 'closed', 'new');
    END IF;
    IF q.conversation IS NOT NULL THEN
        own_ := own(k.id, q.conversation);
        why_ := vain(k, q.conversation, q.version, q.own_only, own_);
        IF why_ IS NOT NULL THEN
            RETURN refused(k, why_, 'new');
        END IF;
    END IF;
    IF q.place IS NULL THEN
        k.place := greatest(k.place + 1, k.micros);
    END IF;
    INSERT INTO waiters VALUES (
        k.id, q.request, q.holder, q.conversation, q.version, coalesce('=' || q.version, ''),
        q.wish, q.ttl, q.own_only, coalesce(q.place, k.place), k.now + q.patience, bell_, true,
        CASE WHEN q.conversation IS NULL THEN 'wish' END, NULL, NULL);
    k.present := k.present + 1;
    k.standing := k.standing + 1;
    IF q.conversation IS NULL THEN
        k.wanting := k.wanting + 1;
    ELSE
        k.touched := k.touched || q.conversation;
    END IF;
    k := serve(k);
    SELECT * INTO w FROM waiters WHERE key = k.id AND request = q.request;
    IF w.granted IS NOT NULL THEN
        RETURN fetched(k, w);
    END IF;
    needs_ := needed(k, q.conversation);
    why_ := CASE WHEN q.note_version <> k.note_version THEN 'note'
        WHEN q.patience <= 0 THEN 'empty'
        WHEN k.standing > k.max_waiting AND q.place IS NULL THEN 'full' END;
    IF why_ IS NOT NULL THEN
        RETURN refused(leave(k, w), why_, needs_);
    END IF;
    k.ends := least(k.ends, w.patience);
    RETURN ticket(k, w.place, needs_);
END $$;

-- A request that was in line says that it is there, or fetches what became of it.
CREATE OR REPLACE FUNCTION again(k desk, w waiters, q question, bell_ text)
RETURNS reply LANGUAGE plpgsql AS $$
DECLARE
    e entries;
    why_ text;
    needs_ text;
BEGIN
    IF w.granted IS NOT NULL THEN
        SELECT * INTO e FROM entries WHERE space = k.space AND id = w.granted;
        IF e.lease IS DISTINCT FROM w.request OR e.lapses <= k.now THEN
            -- Taken away, or lapsed before anybody saw it: back to its old place.
            UPDATE waiters SET standing = true, granted = NULL,
                line = CASE WHEN conversation IS NULL THEN 'wish' END
                WHERE key = k.id AND request = w.request;
            k.standing := k.standing + 1;
            IF w.conversation IS NULL THEN
                k.wanting := k.wanting + 1;
            ELSE
                k.touched := k.touched || w.conversation;
            END IF;
            IF e.lease = w.request THEN
                k := undo(k, e);
            END IF;
            w.granted := NULL;
        END IF;
    END IF;
    IF w.granted IS NULL THEN
        k := serve(k);
        SELECT * INTO w FROM waiters WHERE key = k.id AND request = q.request;
    END IF;
    IF w.granted IS NOT NULL THEN
        RETURN fetched(k, w);
    END IF;
    needs_ := needed(k, w.conversation);
    why_ := coalesce(w.verdict,
        vain(k, w.conversation, w.version, w.own_only, own(k.id, w.conversation)),
        CASE WHEN q.patience <= 0 THEN 'empty' END);
    IF why_ IS NOT NULL THEN
        RETURN refused(leave(k, w), why_, needs_);
    END IF;
    UPDATE waiters SET patience = k.now + q.patience, bell = bell_
        WHERE key = k.id AND request = q.request;
    k.ends := least(k.ends, k.now + q.patience);
    IF q.note_version <> k.note_version THEN
        RETURN refused(k, 'note', needs_);
    END IF;
    RETURN ticket(k, w.place, needs_);
END $$;

CREATE OR REPLACE FUNCTION take(k desk, q question, bell_ text)
RETURNS reply LANGUAGE plpgsql AS $$
DECLARE
    e entries;
    w waiters;
    r reply;
    fits boolean := true;
BEGIN
    IF k.present = 0 AND (q.put).id IS NULL AND k.counts[5] < q.cap AND k.open
        AND (k.tombs <= k.now OR NOT tombstone(k, q.request)) AND k.rests_before = '-Infinity' THEN
        -- Nobody waits, and there is room. The same as below, at a fraction of the price.
        IF q.conversation IS NOT NULL THEN
            e := own(k.id, q.conversation);
            fits := CASE WHEN e.id IS NULL THEN NOT q.own_only
                ELSE e.state = 'parked' AND (q.version IS NULL OR q.version = e.agent_version) END;
        END IF;
        IF fits AND k.counts[5] > 0 THEN  -- one that holds something already?
            fits := NOT EXISTS (SELECT FROM entries
                WHERE key = k.id AND lease = q.request AND lease <> '');
        END IF;
        IF fits AND e.id IS NULL THEN
            e := free(k.id, q.version, k.now + q.wish, '-Infinity');
            fits := e.id IS NOT NULL;
        END IF;
        IF fits THEN
            k.cap := q.cap;
            k.max_waiting := q.max_waiting;
            IF q.place IS NULL THEN
                k.place := greatest(k.place + 1, k.micros);
            END IF;
            k := lease(k, e, q.holder, q.conversation, q.ttl, q.request,
                coalesce(q.place, k.place));
            RETURN granted(k, k.entry);
        END IF;
    END IF;
    k.asker := q.request;  -- it is answered, and need not be rung
    IF (q.put).id IS NOT NULL THEN
        k := change(k, q.put);
    END IF;
    k.cap := q.cap;
    k.max_waiting := q.max_waiting;
    SELECT * INTO w FROM waiters WHERE key = k.id AND request = q.request;
    IF FOUND THEN
        r := again(k, w, q, bell_);
    ELSE
        r := arrive(k, q, bell_);
    END IF;
    r.desk := serve(r.desk);
    r.desk.asker := NULL;
    RETURN r;
END $$;

CREATE OR REPLACE FUNCTION withdraw(k desk, request_ text) RETURNS desk LANGUAGE plpgsql AS $$
DECLARE
    e entries;
    w waiters;
BEGIN
    DELETE FROM tombstones WHERE key = k.id AND ends <= k.now;
    -- Longer than any take can be on its way.
    INSERT INTO tombstones VALUES (k.id, request_, k.now + 60)
        ON CONFLICT (key, request) DO UPDATE SET ends = excluded.ends;
    k.tombs := greatest(k.tombs, k.now + 60);
    SELECT * INTO w FROM waiters WHERE key = k.id AND request = request_;
    IF FOUND THEN
        k := leave(k, w);
    ELSE
        SELECT * INTO e FROM entries WHERE key = k.id AND lease = request_ AND lease <> '';
        IF FOUND THEN
            k := undo(k, e);
        END IF;
    END IF;
    RETURN serve(k);
END $$;

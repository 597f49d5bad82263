/* One transaction: outbox, leaders, compare-and-swap push. What pipeline/ledger/leader.py and store.py do.

   docs/explanation/model.md says rule by rule which function each step stands for, and what is left out.

   The state the ledger guards is one register. A request TAKEs it (refused unless it is free) or FREEs it
   (refused unless it is taken), so that each can be granted or refused, whatever its kind: deliver or attached.
   Sets of operations are bits of a byte; bit p is the one operation of process p.

   Versions of entries are not counted. `fresh[p]` holds the entries that nobody moved since leader p looked:
   the same comparison, in fewer states. Commits are not numbered either: what counts of a tip is whether it
   is the remote's (`cur`, `remok`) or the node's mark (`lcur`).

   Bounds, each by -D: NODES, LEADERS (processes of node 0), KILLS, UNKNOWNS (pushes without an answer:
   request lost, reply lost, or applied later), HOOKS (pushes that a hook refuses), FULL (all kinds of request
   everywhere), COPY (node 1 begins as a copy of node 0's disk, and both run).
   Mutants, each by -D: the rule that it leaves out stands beside its #ifdef. */

#ifndef NODES
#define NODES 2
#endif
#ifndef LEADERS
#define LEADERS 2
#endif
#ifndef KILLS
#define KILLS 1
#endif
#ifndef UNKNOWNS
#define UNKNOWNS 1
#endif
#ifndef HOOKS
#define HOOKS 0
#endif
#ifndef FULL
#define FULL 0
#endif

/* Processes: first the askers, each with one request, then for each node one `recover`, which runs when the
   askers of its node have ended, and whose one request is the withdrawal of what the dead were granted. */
#define ASKERS (NODES + LEADERS - 1)
#define ACTORS (ASKERS + NODES)
#define B(x) (1 << (x))
#define EVERY_ASKER (B(ASKERS) - 1)
#define NODE(p) ((p) >= ASKERS -> (p) - ASKERS : ((p) < LEADERS -> 0 : (p) - LEADERS + 1))
#define ASKERS_OF(s) ((s) == 0 -> B(LEADERS) - 1 : B((s) + LEADERS - 1))
#define NOBODY 15
#define SOMEBODY 15

#ifdef COPY
#define NUMBERS (LEADERS + 2 + 1)
#define WRITERS 4
#ifdef ATTACHED
#define LAST_KIND 3
#else
#define LAST_KIND 1
#endif
#else
#define NUMBERS (LEADERS + 1 + 1) /* 1 and on; one for each request of a node, and 0 */
#define WRITERS NODES
#define LAST_KIND 3 /* attached TAKE; 0 is deliver FREE, 1 deliver TAKE, 2 attached FREE */
#endif
#if defined(COPY) || defined(NUMBERED_AT_DRAIN)
#define BY_NUMBER
#endif

/* ---- the remote: the register, the receipts, and who is under way */
byte reg;                /* 0: free; otherwise the operation that took it, plus 1 */
byte receipts, said_yes; /* operations that are in the chain; those whose recorded outcome is a success */
byte granted;            /* of those, the ones that were applied, not recorded as withdrawn */
byte rset[WRITERS];      /* `settled` of each writer; without BY_NUMBER the held entries that it reaches: none */
byte tip_of = NOBODY;    /* whose present plan is the tip: git answers `[up to date]` to its second push */
byte late;               /* pushes that may arrive later, whatever became of their sender */
byte remok;              /* plans whose parent is the tip */

/* ---- each node's store */
byte mreg[NODES], mdone[NODES], mset[NODES]; /* the mark: register, receipts, `settled` in its tree */
byte cur;                /* marks that are the tip */
byte open[NODES], answered[NODES], yes[NODES];
byte d_old[NODES];       /* doubtful on a tip that the mark has passed */
byte d_tip[NODES];       /* doubtful on the mark */
byte opat[NODES * NUMBERS]; /* number -> operation, plus 1 */
byte next[NODES];
byte undo[NODES];        /* what recover's request withdraws */

byte takes, attached;    /* what the requests are; the others FREE, and are to be delivered */
byte dead, ended;

/* ---- leaders: what each has decided on what it saw */
byte pl[ACTORS], pok[ACTORS], pwd[ACTORS]; /* entries; those with success; those decided as a withdrawal */
byte preg[ACTORS], pfloor[ACTORS];
byte fresh[ACTORS];
byte rb, rl[ACTORS];     /* has read the remote, which is the mark still; the entries that were there then */
byte lcur;               /* plans whose parent is the mark */
byte again, commits, want;

/* ---- ghosts: for the invariants only */
byte told_no, could_refuse;

byte kills = KILLS, unknowns = UNKNOWNS, hooks = HOOKS;
/* Temporary, within one step. Spin's search for the shortest counterexample knows no hidden variables. */
#ifdef BREADTH_FIRST
#define hidden
#define TIDY ; i = 0; n = 0; o = 0; r = 0; m = 0
#else
#define TIDY
#endif
hidden byte i, n, o, r, m;

#ifdef BY_NUMBER
byte recw[ACTORS], recn[ACTORS]; /* under which writer and number an operation is in the chain */
byte pnum[ACTORS * NUMBERS];
#endif
#ifdef COPY
byte writer[NODES], known, entry_writer[NODES * ACTORS];
byte closes[NODES], rclosed, mclosed[NODES];
byte pwriter[ACTORS], pcloses[ACTORS], conflict, shared;
byte new_writer = 1;
#define WRITER(s) writer[s]
#define GONE(s) (dead | ((s) == 1 -> ASKERS_OF(0) : 0)) /* the copy's machine knows no process of the original */
#define ALONE(p, s) ((s) != 0 && ((p) >= ASKERS || ((ended | B(p)) & ASKERS_OF(s)) == ASKERS_OF(s)))
#else
#define WRITER(s) (s)
#define GONE(s) dead
#define ALONE(p, s) ((p) >= ASKERS || ((ended | B(p)) & ASKERS_OF(s)) == ASKERS_OF(s))
#endif
#if defined(COPY) && !defined(COPY_REFUSES)
/* What one copy refuses without a push, the other may carry out, if both hold it. COPY_REFUSES shows it. */
#define SHARED shared
#else
#define SHARED 0
#endif
/* ALONE: no other process of the node is there to see a step between two of this one's, so steps that touch the
   store only are taken together. */

/* From now on a refusal of these entries would have been true at a moment after they were asked. */
inline note_refusable() {
    m = open[0] | open[1];
#if NODES > 2
    m = m | open[2];
#endif
    if
    :: reg != 0 -> could_refuse = could_refuse | (takes & m)
    :: else -> could_refuse = could_refuse | (m & ~takes & EVERY_ASKER)
    fi
}

/* Every arrow of the store raises the version of the entries that it moves. */
inline move(s, who, set) {
    i = 0;
    do
    :: i < ACTORS -> if :: i != who && NODE(i) == s -> fresh[i] = fresh[i] & ~(set) :: else fi; i++
    :: else -> break
    od
}

inline enqueue(s, op) {
    opat[s * NUMBERS + next[s]] = op + 1;
    next[s]++;
    open[s] = open[s] | B(op);
#ifdef COPY
    entry_writer[s * ACTORS + op] = writer[s];
#endif
    note_refusable()
}

/* take, drop: the entries are gone. What was said of them is of no use any more, and who holds the register
   for good is only "somebody": both keep the number of states small. */
inline remove(s, set) {
    open[s] = open[s] & ~(set);
    answered[s] = answered[s] & ~(set);
    yes[s] = yes[s] & ~(set);
#ifndef COPY
    dead = dead & ~(set);
    takes = takes & ~(set);
#endif
#ifdef BY_NUMBER
    n = 1;
    do
    :: n < NUMBERS ->
        o = opat[s * NUMBERS + n];
        if :: o && (B(o - 1) & (set)) -> opat[s * NUMBERS + n] = 0 :: else fi;
        n++
    :: else -> break
    od
#else
    said_yes = said_yes & ~(set);
    granted = granted & ~(set);
    n = 1; r = 1;
    do
    :: n < NUMBERS ->
        o = opat[s * NUMBERS + n];
        opat[s * NUMBERS + n] = 0;
        if :: o && !(B(o - 1) & (set)) -> opat[s * NUMBERS + r] = o; r++ :: else fi;
        n++
    :: else -> break
    od;
    next[s] = r
#endif
}

inline become_somebody(op) {
    if :: reg == op + 1 -> reg = SOMEBODY :: else fi;
    n = 0;
    do
    :: n < ACTORS -> if :: preg[n] == op + 1 -> preg[n] = SOMEBODY :: else fi; n++
    :: else -> break
    od;
    n = 0;
    do
    :: n < NODES -> if :: mreg[n] == op + 1 -> mreg[n] = SOMEBODY :: else fi; n++
    :: else -> break
    od
}

inline forget_plan(p) {
    if
    :: !(late & B(p)) ->
        pl[p] = 0; pok[p] = 0; pwd[p] = 0; preg[p] = 0; pfloor[p] = 0;
        remok = remok & ~B(p);
#ifdef COPY
        pwriter[p] = 0; pcloses[p] = 0;
#endif
#ifdef NUMBERED_AT_DRAIN
        i = 0;
        do
        :: i < NUMBERS -> pnum[p * NUMBERS + i] = 0; i++
        :: else -> break
        od
#endif
    :: else
    fi;
    fresh[p] = 0;
    lcur = lcur & ~B(p);
    if :: tip_of == p -> tip_of = NOBODY :: else fi
}

inline mark_moved(s) {
    d_old[s] = d_old[s] | d_tip[s];
    d_tip[s] = 0;
    i = 0;
    do
    :: i < ACTORS ->
        if
        :: NODE(i) == s ->
            lcur = lcur & ~B(i);
            if :: rb & B(i) -> rb = rb & ~B(i); rl[i] = 0 :: else fi
        :: else
        fi;
        i++
    :: else -> break
    od
}

/* Branch.fetch: the mark becomes the remote's tip. */
inline read_remote(s) {
    if
    :: !(cur & B(s)) ->
        mreg[s] = reg; mset[s] = rset[WRITER(s)];
#ifdef BY_NUMBER
        mdone[s] = receipts;
#else
        mdone[s] = receipts & open[s];
#endif
#ifdef COPY
        mclosed[s] = rclosed;
#endif
        cur = cur | B(s);
        mark_moved(s)
    :: else
    fi
}

/* Store.settle: by operation, whatever became of the entry meanwhile. */
inline settle(s, set, oks) {
    m = open[s] & (set);
    open[s] = open[s] & ~m;
    answered[s] = answered[s] | m;
    yes[s] = yes[s] | (m & (oks));
    told_no = told_no | (m & ~(oks) & EVERY_ASKER);
    d_old[s] = d_old[s] & ~m;
    d_tip[s] = d_tip[s] & ~m;
#ifndef COPY
    could_refuse = could_refuse & ~m;
#endif
    move(s, NOBODY, m)
}

/* The server takes a push: its parent is the tip. */
inline apply(p) {
    assert((receipts & pl[p]) == 0);            /* applied-once */
    assert((told_no & pok[p] & ~SHARED) == 0);  /* refused-never-applied */
    receipts = receipts | pl[p];
    said_yes = said_yes | pok[p];
    granted = granted | (pok[p] & ~pwd[p]);
    reg = preg[p];
#ifdef COPY
    o = pwriter[p];
    rclosed = rclosed | pcloses[p];
#else
    o = NODE(p);
#endif
#ifndef BY_NUMBER
    rset[o] = rset[o] | pfloor[p];
#else
    if :: pfloor[p] > rset[o] -> rset[o] = pfloor[p] :: else fi;
    n = 1;
    do
    :: n < NUMBERS ->
        r = pnum[p * NUMBERS + n];
        if :: r -> recw[r - 1] = o; recn[r - 1] = n :: else fi;
        n++
    :: else -> break
    od;
#endif
    late = 0; remok = 0; cur = 0;
    tip_of = p;
    note_refusable()
}

/* Which entries the chain has already (Leader._known, chain.lookup), into `m`. */
inline look_up(s, p) {
#ifndef BY_NUMBER
    m = open[s] & mdone[s] & ~mset[s];
#else
    m = 0; r = 0;
#ifdef COPY
    if :: (known & B(s)) && (mclosed[s] & B(writer[s])) -> conflict = conflict | B(p) :: else fi;
#endif
    n = 1;
    do
    :: n < NUMBERS ->
        o = opat[s * NUMBERS + n];
        if
        :: o && (open[s] & B(o - 1)) ->
            o--;
            i = 0;
            do
            :: i < ACTORS ->
                if
                :: (mdone[s] & B(i)) && recw[i] == WRITER(s) && recn[i] == n ->
#ifdef COPY
                    if
                    :: i == o && !(mclosed[s] & B(writer[s])) -> m = m | B(o)
#ifdef OP_NOT_COMPARED /* success is read out of a number alone */
                    :: i != o -> m = m | B(o); r = r | (said_yes & B(i) -> B(o) : 0)
#else
                    :: i != o -> conflict = conflict | B(p)
#endif
                    :: else
                    fi
#else
                    m = m | B(o); r = r | (said_yes & B(i) -> B(o) : 0)
#endif
                :: else
                fi;
                i++
            :: else -> break
            od;
            if
            :: n <= mset[s] && !(m & B(o)) ->
#if defined(OP_NOT_COMPARED) || defined(NUMBERED_AT_DRAIN)
                m = m | B(o); r = r | B(o)
#else
                conflict = conflict | B(p)
#endif
            :: else
            fi;
#ifdef COPY
            if :: (mclosed[s] & B(writer[s])) -> conflict = conflict | B(p) :: else fi;
#ifndef SEARCH_LEFT_OUT /* entries of an earlier life are looked up in the history */
            if :: entry_writer[s * ACTORS + o] != writer[s] && (mdone[s] & B(o)) -> m = m | B(o) :: else fi;
#endif
#endif
        :: else
        fi;
        n++
    :: else -> break
    od
#endif
}

inline decide(s, p) {
    pl[p] = pl[p] | B(o);
    if
    :: o >= ASKERS -> /* recover's withdrawal */
        pok[p] = pok[p] | B(o);
        if :: r != 0 && (B(r - 1) & undo[s]) -> r = 0; commits = commits | B(p) :: else fi
    :: o < ASKERS && (attached & GONE(s) & B(o)) -> /* decided as its own withdrawal */
        pok[p] = pok[p] | B(o); pwd[p] = pwd[p] | B(o);
        if :: r == o + 1 -> r = 0; commits = commits | B(p) :: else fi
    :: o < ASKERS && !(attached & GONE(s) & B(o)) && ((takes & B(o)) != 0) == (r == 0) ->
        pok[p] = pok[p] | B(o); commits = commits | B(p);
        r = (r == 0 -> o + 1 : 0)
    :: else /* refused */
    fi
}

/* Steps 1 to 3 of Leader.drain, as of one moment. again: something was settled, dropped, or is in conflict. */
inline plan(s, p) {
    d_step {
        if :: want & B(p) -> read_remote(s); want = want & ~B(p) :: else fi;
        forget_plan(p);
        again = again & ~B(p); commits = commits & ~B(p);
        look_up(s, p);
#ifdef LOOKUP_LEFT_OUT /* nobody asks whether a push without an answer was applied */
        m = 0;
#endif
        if
#ifdef COPY
        :: conflict & B(p) -> fresh[p] = open[s]; pwriter[p] = writer[s]
        :: m != 0 && !(conflict & B(p)) ->
#else
        :: m != 0 ->
#endif
#if defined(OP_NOT_COMPARED) || defined(NUMBERED_AT_DRAIN)
            o = m; r = r | (said_yes & receipts & m);
#else
            o = m; r = said_yes;
#endif
            settle(s, o, r); again = again | B(p)
        :: else ->
#ifdef DROPPED_ALTHOUGH_PUSHED /* an entry that may still land is dropped when its asker goes */
            o = open[s] & attached & GONE(s);
#else
            o = open[s] & attached & GONE(s) & ~d_tip[s]; /* never pushed, or by a push that is dead */
#endif
            if :: o != 0 -> r = o; move(s, NOBODY, r); remove(s, r); again = again | B(p) :: else fi
        fi;
        if
#ifdef COPY
        :: !(again & B(p)) && !(conflict & B(p)) ->
            pwriter[p] = writer[s]; pcloses[p] = closes[s];
#else
        :: !(again & B(p)) ->
#endif
            r = mreg[s];
            pfloor[p] = 0; i = 0;
            n = 1;
            do
            :: n < NUMBERS ->
                o = opat[s * NUMBERS + n];
                if
                :: o != 0 ->
                    o--;
                    if :: i == 0 -> i = n :: else fi;
                    if
                    :: open[s] & B(o) ->
#ifndef BY_NUMBER
                        assert(!(mset[s] & B(o))); /* no-false-conflict */
#endif
                        decide(s, p);
#ifdef COPY
                        pnum[p * NUMBERS + n] = o + 1
#endif
                    :: else
                    fi
                :: else
                fi;
                n++
            :: else -> break
            od;
            preg[p] = r;
#ifdef BY_NUMBER
            pfloor[p] = (i -> i - 1 : 0); /* just below the oldest entry held, answered ones included */
#endif
#ifdef NUMBERED_AT_DRAIN /* a group leader numbers what it finds, newest first, from `settled` on */
            n = NUMBERS - 1; r = mset[s] + 1;
            if :: r <= pfloor[p] -> r = pfloor[p] + 1 :: else fi;
            do
            :: n > 0 ->
                o = opat[s * NUMBERS + n];
                if :: o && (open[s] & B(o - 1)) && r < NUMBERS -> pnum[p * NUMBERS + r] = o; r++ :: else fi;
                n--
            :: else -> break
            od;
#endif
#ifdef SETTLED_TOO_FAR /* settled reaches into its own batch */
            pfloor[p] = pl[p];
#endif
            fresh[p] = pl[p];
#if !defined(REFUSED_WHILE_OPEN) && !defined(WAITS_FOR_DOUBT)
            /* While a push of these entries may land, a refusal is pushed as well. REFUSED_WHILE_OPEN: it is
               answered at once. WAITS_FOR_DOUBT: the push is waited for, which may never arrive. */
            if :: pl[p] & d_tip[s] -> commits = commits | B(p) :: else fi;
#endif
            if
            :: commits & B(p) ->
                lcur = lcur | B(p);
                if :: cur & B(s) -> remok = remok | B(p) :: else fi;
                rb = rb & ~B(p); rl[p] = 0
            :: else -> pfloor[p] = 0; preg[p] = 0
            fi
        :: else
        fi TIDY
    }
}

/* Step 4. Store.answer_unpushed: an entry that has moved since is left alone. */
inline answer_unpushed(s, p) {
    d_step {
#ifdef NOT_COMPARED /* an arrow of the outbox does not compare what it starts from */
        m = pl[p] & open[s];
#else
        m = pl[p] & fresh[p] & open[s];
#endif
        o = m & EVERY_ASKER & ~pok[p];
        assert((o & ~could_refuse) == 0);       /* refusal-was-true */
        assert((o & granted & ~SHARED) == 0);   /* refused-never-applied */
        o = pok[p]; r = m;
        settle(s, r, o);
        rb = rb & ~B(p); rl[p] = 0;
        forget_plan(p) TIDY
    }
}

/* Step 5. Store.begin_attempt: all or none. */
inline begin_attempt(s, p) {
    d_step {
        if
#ifdef COPY
        :: (pl[p] & ~fresh[p]) == 0 && pwriter[p] == writer[s] ->
#else
        :: (pl[p] & ~fresh[p]) == 0 ->
#endif
            if
            :: lcur & B(p) -> d_tip[s] = d_tip[s] | pl[p]; d_old[s] = d_old[s] & ~pl[p]
            :: else -> d_old[s] = d_old[s] | pl[p]
            fi;
            move(s, p, pl[p])
        :: else -> forget_plan(p); again = again | B(p)
        fi TIDY
    }
}

/* Step 6, refused or stale: the words are of one push; a copy of it may be under way, so the doubt stays. */
inline turned_down(s, p) {
    d_step {
#ifdef DOUBT_FORGOTTEN /* a push that is turned down in so many words counts as dead */
        o = pl[p] & fresh[p] & open[s];
        d_tip[s] = d_tip[s] & ~o;
        d_old[s] = d_old[s] & ~o;
        move(s, p, o)
#else
        skip
#endif
        TIDY
    }
}

/* Step 6, landed: Store.settle, and the mark moves from the parent to the commit. */
inline landed(s, p) {
    d_step {
#ifdef COPY
        if
        :: writer[s] == pwriter[p] && !(known & B(s)) -> known = known | B(s); closes[s] = 0
        :: else
        fi;
#endif
        if
        :: lcur & B(p) ->
            mreg[s] = preg[p];
#ifdef BY_NUMBER
            mdone[s] = mdone[s] | pl[p];
#endif
#ifdef COPY
            mclosed[s] = mclosed[s] | pcloses[p];
#endif
#ifdef BY_NUMBER
            if :: pfloor[p] > mset[s] -> mset[s] = pfloor[p] :: else fi;
#else
            mset[s] = mset[s] | pfloor[p];
#endif
            mark_moved(s);
            if :: tip_of == p -> cur = cur | B(s) :: else fi
        :: else
        fi;
        r = pl[p]; o = pok[p];
        settle(s, r, o);
        forget_plan(p) TIDY
    }
}

inline die(p) {
    d_step {
        forget_plan(p);
        rb = rb & ~B(p); rl[p] = 0;
        again = again & ~B(p); commits = commits & ~B(p); want = want & ~B(p);
        dead = dead | B(p) TIDY
    }
}

inline take(s, p) {
    if
    :: yes[s] & B(p) -> assert(granted & B(p))  /* acknowledged-is-applied */
    :: else -> assert(!(granted & B(p) & ~SHARED)) /* refused-never-applied */
    fi;
    d_step {
        m = B(p);
        remove(s, m);
        become_somebody(p);
        rb = rb & ~B(p); rl[p] = 0 TIDY
    }
}

#ifdef COPY
/* A snapshot of node 0's disk is started as node 1, under the same writer id. */
inline copy_store() {
    mreg[1] = mreg[0]; mdone[1] = mdone[0]; mset[1] = mset[0]; mclosed[1] = mclosed[0];
    if :: cur & 1 -> cur = cur | 2 :: else cur = cur & ~2 fi;
    shared = open[0];
    open[1] = open[0]; answered[1] = answered[0]; yes[1] = yes[0];
    d_old[1] = d_old[0]; d_tip[1] = d_tip[0];
    next[1] = next[0]; writer[1] = writer[0]; closes[1] = closes[0];
    if :: known & 1 -> known = known | 2 :: else known = known & ~2 fi;
    n = 0;
    do
    :: n < NUMBERS -> opat[NUMBERS + n] = opat[n]; n++
    :: else -> break
    od;
    n = 0;
    do
    :: n < ACTORS -> entry_writer[ACTORS + n] = entry_writer[n]; n++
    :: else -> break
    od
}

inline be_reborn(s) {
    closes[s] = closes[s] | B(writer[s]);
#ifdef OLD_WRITER_LEFT_OPEN /* the first commit of the new life does not close the old one */
    closes[s] = 0;
#endif
    writer[s] = new_writer; new_writer++;
    assert(new_writer <= WRITERS);
    known = known & ~B(s); mset[s] = 0;
    r = open[s];
    move(s, NOBODY, r)
}

/* Store.rebirth, only of what the leader has seen. */
inline rebirth(s, p) {
    d_step {
        conflict = conflict & ~B(p);
        if
        :: writer[s] == pwriter[p] && (open[s] & ~fresh[p]) == 0 -> be_reborn(s)
        :: else
        fi;
        forget_plan(p) TIDY
    }
}
#endif

proctype actor(byte p) {
    byte s;
    s = NODE(p);
#ifdef COPY
    if
    :: p < ASKERS && s == 0 -> d_step { enqueue(s, p) TIDY }
    :: p < ASKERS && s == 1 -> d_step { copy_store(); enqueue(s, p) TIDY }
    /* Store._set_up: the copy finds itself on another machine, and is reborn before anything else. */
    :: p < ASKERS && s == 1 -> d_step { copy_store(); be_reborn(1); enqueue(s, p) TIDY }
    :: p >= ASKERS -> (ended & ASKERS_OF(s)) == ASKERS_OF(s)
    fi;
#else
    if
    :: p < ASKERS -> d_step { enqueue(s, p) TIDY }
    :: atomic { p >= ASKERS && (ended & ASKERS_OF(s)) == ASKERS_OF(s) ->
            if :: open[s] == 0 && answered[s] == 0 -> goto END :: else fi
        }
    fi;
#endif
LOOK:
    if
    :: atomic { p < ASKERS && kills > 0 && !(want & B(p)) -> kills--; die(p); goto END }
    :: atomic { p < ASKERS && (answered[s] & B(p)) -> take(s, p); goto END }
    :: atomic { p >= ASKERS && open[s] == 0 && answered[s] == 0 -> goto END }
    :: atomic { p >= ASKERS && open[s] == 0 && answered[s] != 0 ->
            d_step { /* Ledger.deliver: what the dead were granted is withdrawn, then all is taken */
                o = answered[s] & attached & yes[s] & EVERY_ASKER;
#ifdef NOT_HELD /* an answered entry is forgotten before its asker has it */
                o = 0;
#endif
                if
                :: o && undo[s] == 0 -> undo[s] = o; enqueue(s, p)
                :: else -> m = answered[s]; remove(s, m)
                fi TIDY
            }
            goto LOOK
        }
    :: atomic { (p < ASKERS -> (open[s] & B(p)) : open[s]) != 0 ->
            plan(s, p);
            if
#ifdef COPY
            :: conflict & B(p) -> goto REBIRTH
            :: !(conflict & B(p)) && (again & B(p)) -> goto LOOK
            :: !(conflict & B(p)) && !(again & B(p)) && (commits & B(p)) ->
#else
            :: again & B(p) -> goto LOOK
            :: !(again & B(p)) && (commits & B(p)) ->
#endif
                if :: ALONE(p, s) -> begin_attempt(s, p); goto PUSH :: else -> goto BEGIN fi
            :: else ->
                if
#ifdef CACHED_TIP /* a refusal rests on the last tip seen */
                :: true -> goto ANSWER
#elif defined(WAITS_FOR_DOUBT)
                :: (rb & B(p)) && (pl[p] & ~rl[p]) == 0 && (pl[p] & d_tip[s]) == 0 -> goto ANSWER
#else
                :: (rb & B(p)) && (pl[p] & ~rl[p]) == 0 ->
                    if :: ALONE(p, s) -> answer_unpushed(s, p); goto LOOK :: else -> goto ANSWER fi
#endif
                :: else -> goto READ
                fi
            fi
        }
    fi;
READ:
    if
    :: atomic { d_step { read_remote(s); rb = rb | B(p); rl[p] = pl[p]; forget_plan(p) TIDY } goto LOOK }
    fi;
ANSWER:
    if
    :: atomic { answer_unpushed(s, p); goto LOOK }
    fi;
#ifdef COPY
REBIRTH:
    if
    :: atomic { rebirth(s, p); goto LOOK }
    fi;
#endif
BEGIN:
    if
    :: atomic {
            begin_attempt(s, p);
            if :: again & B(p) -> again = again & ~B(p); goto LOOK :: else fi
        }
    fi;
PUSH:
    if
    :: atomic { p < ASKERS && kills > 0 -> kills--; die(p); goto END }
    :: atomic { remok & B(p) ->
            d_step { apply(p) TIDY }
            if
            :: ALONE(p, s) && p < ASKERS && kills > 0 -> kills--; die(p); goto END
            :: ALONE(p, s) ->
                landed(s, p);
                if
                :: p < ASKERS && kills > 0 -> kills--; die(p); goto END
                :: p < ASKERS -> take(s, p); goto END
                :: p >= ASKERS -> goto LOOK
                fi
            :: !ALONE(p, s) -> goto LANDED
            fi
        }
    :: atomic { !(remok & B(p)) && tip_of == p -> goto LANDED }
    :: atomic { !(remok & B(p)) && tip_of != p ->
            if
            :: ALONE(p, s) -> turned_down(s, p); d_step { forget_plan(p); want = want | B(p) TIDY } goto LOOK
            :: else -> goto STALE
            fi
        }
    :: atomic { unknowns > 0 -> unknowns-- }
    :: atomic { unknowns > 0 && (remok & B(p)) -> unknowns--; d_step { apply(p) TIDY } }
    :: atomic { unknowns > 0 && (remok & B(p)) -> unknowns--; late = late | B(p) }
    :: atomic { hooks > 0 -> hooks--; goto REFUSED }
    :: atomic { hooks > 0 && (remok & B(p)) && p < ASKERS -> hooks--; late = late | B(p); goto REFUSED }
    fi;
    /* No answer came: the same commit again, or patience is at its end. */
    if
    :: goto PUSH
    :: atomic { p < ASKERS -> die(p); goto END }
    fi;
LANDED:
    if
    :: atomic { p < ASKERS && kills > 0 -> kills--; die(p); goto END }
    :: atomic { true -> landed(s, p); goto LOOK }
    fi;
STALE:
    if
    :: atomic { turned_down(s, p) }
    fi;
    if
    :: atomic { d_step { read_remote(s); forget_plan(p) TIDY } goto LOOK }
    fi;
REFUSED:
    if
    :: atomic { turned_down(s, p) }
    fi;
    /* The branch is read before the words are believed. */
    if
    :: atomic {
            d_step { read_remote(s); if :: !(remok & B(p)) -> late = late & ~B(p) :: else fi TIDY }
            if
            :: (remok & B(p)) && p < ASKERS -> die(p); goto END
            :: else -> d_step { forget_plan(p) TIDY } goto LOOK
            fi
        }
    fi;
END:
    atomic { ended = ended | B(p) }
}

/* A push that outlived its sender's patience arrives, or is lost after all. */
proctype network() {
    byte q;
end:
    do
    :: atomic { late != 0 ->
            do
            :: (late >> (q + 1)) != 0 -> q++
            :: late & B(q) -> break
            od;
            if
            :: d_step { apply(q) TIDY }
            :: late = late & ~B(q)
            fi;
            q = 0
        }
    od
}

init {
    atomic {
        byte k, kind;
        if :: reg = 0 :: reg = SOMEBODY fi;
        do
        :: k < ASKERS ->
            /* Processes of one node are alike, and so are the nodes after the first: one order will do. */
            if :: k == LEADERS -> kind = 0 :: else fi;
            do
            :: kind < (k < LEADERS || FULL -> LAST_KIND : 1) -> kind++
            :: break
            od;
            takes = takes | ((kind & 1) << k);
            attached = attached | ((kind >> 1) << k);
            k++
        :: else -> break
        od;
        kind = 0;
        k = 0;
        do
        :: k < NODES -> mreg[k] = reg; next[k] = 1; cur = cur | B(k); k++
        :: else -> break
        od;
        k = 0;
        do
        :: k < ACTORS -> run actor(k); k++
        :: else -> break
        od;
        run network();
        k = 0
    }
    /* Every asker that lives has its answer, every outbox is empty, and nobody holds what he was not told. A
       run that gets stuck before is an invalid end state. */
    atomic {
        ended == B(ACTORS) - 1 && late == 0 ->
        assert(reg == 0 || reg == SOMEBODY || !(attached & B(reg - 1)))  /* no-orphan-grant */
    }
}

/* One lease: grant, renewal, observation, takeover, wait. What pipeline/coordination/leases.py decides, and
   pipeline/operations/lease.py, waiter.py, pulse.py and guarded.py do.

   docs/explanation/model.md says rule by rule which function each step stands for, and what is left out.

   A transaction on the ledger is one step here: that it happens once is what transaction.pml checks. Its answer
   may come late, because any time may pass between two steps of a node.

   Time. A tick is a tick of true time, and drift is a third: a clock may count 2 or 4 ticks where there are 3.
   ttl is 3. With CLOCKS each node has a clock of its own that is slow, true or fast for good, and all its timers
   run on it: trust lasts ttl × (1 − 1/3) = 2 of its ticks, and silence needs ttl × (1 + 1/3) = 4. Without CLOCKS
   every timer runs on the worst clock for what it is for: trust on the slowest, so for 3 ticks of true time,
   silence and waiting on the fastest, so for 3. Margin and grace are 0: they are what reality needs besides.

   Bounds, each by -D: NODES, SESSIONS (how often each node asks for the lock), KILLS, BREAKS (by hand).
   TIMELY: a node does what it can do before the next tick. Without it a node may sleep for as long as it likes,
   which is where overlaps come from; with it, whoever lives has to be served.
   Mutants and flaws, each by -D: what it leaves out or brings in stands beside its #ifdef. */

#ifndef NODES
#define NODES 2
#endif
#ifndef SESSIONS
#define SESSIONS 2
#endif
#ifndef KILLS
#define KILLS 1
#endif
#ifndef BREAKS
#define BREAKS 1
#endif

#ifdef CLOCKS
#ifdef DRIFT_IGNORED /* a holder trusts for the whole ttl, and a challenger waits for no more than it */
#define TRUST 3
#define SILENCE 3
#else
#define TRUST 2
#define SILENCE 4
#endif
#else
#ifdef DRIFT_IGNORED
#define TRUST 4
#define SILENCE 2
#else
#define TRUST 3
#define SILENCE 3
#endif
#endif
#define WAIT SILENCE
#define LONG 5 /* TIMELY: how many ticks work takes at the most; longer than a ttl */

#define IDLE 0
#define WAITING 1 /* in the queue, observing the holder */
#define TAKING 2  /* a takeover is on its way to the ledger */
#define BEFORE 3  /* granted; waits until nobody before can be working any more */
#define HOLDING 4 /* between renewals */
#define PUSHING 5 /* a nonce is drawn, its push is under way */
#define PUSHED 6  /* the push was acknowledged; the ledger is to be read */
#define OVER 7
#define DEAD 8

#define B(x) (1 << (x))
#define NONE 0
#define NAMES (NODES + 6)

/* ---- the ledger */
byte holder;            /* node, plus 1; 0: the lock is free */
byte current;           /* nodes whose token is the lock's: one, or none */
byte before, before_nonce; /* its predecessor: node, plus 1, and the nonce that was seen of it last */
bit before_old;         /* that node has another token by now, or none */
bit cautious;
byte queue[NODES], queued;

/* ---- the heartbeat refs: the nonce under the node's token */
byte ref[NODES];
byte late, late_nonce;  /* OLD_NONCE only: what a pusher made up a while ago; of which node, plus 1 */

/* ---- the nodes */
byte pc[NODES], sessions[NODES];
byte nonce[NODES];      /* drawn last by the holding process */
byte trust[NODES];      /* ticks of the own clock until trust ends; the watchdog ends the work with it */
byte candidate[NODES];  /* the same for the renewal that is under way */
byte wait[NODES];
byte seen[NODES], silence[NODES]; /* a challenger's observation of the present token; ticks to silence */
byte observing, worked;
byte rate[NODES], phase;
byte kills = KILLS, breaks = BREAKS;
#ifdef TIMELY
byte done;              /* nodes that have done their part of this tick */
byte broken;            /* holders whose lock was broken by hand */
byte spent[NODES];      /* ticks of work */
#endif

/* ---- ghost: nodes whose token is older than one that somebody has worked under */
byte older;

/* Temporary, within one step. Spin's search for the shortest counterexample knows no hidden variables. */
#ifdef BREADTH_FIRST
#define hidden
#endif
hidden byte i, n, m, map[NAMES];

#define WORKS(k) (trust[k] > 0)
#define ENDED(k) (pc[k] == OVER || pc[k] == DEAD)
#define HELD_BY(k) (holder == k + 1 && (current & B(k)))
#if NODES == 2
#define EVERY(what) (what(0) && what(1))
#define QUEUED(k) (queued > 0 && (queue[0] == k || (queued > 1 && queue[1] == k)))
#else
#define EVERY(what) (what(0) && what(1) && what(2))
#define QUEUED(k) (queued > 0 && (queue[0] == k || (queued > 1 && queue[1] == k) || (queued > 2 && queue[2] == k)))
#endif
#ifdef TIMELY
#define DONE(k) done = done | B(k)
#define BUSY(k) done = done & ~B(k)
#define FIRST(k) !(done & B(k))
#define GOES_ON(k) (spent[k] < LONG)
#define LIVES_ON(k) (pc[k] == HOLDING || pc[k] == BEFORE || (pc[k] == WAITING && !HELD_BY(k)))
#define QUIET(k) (ENDED(k) || ((done & B(k)) && LIVES_ON(k)))
#else
#define DONE(k) skip
#define BUSY(k) skip
#define FIRST(k) true
#define GOES_ON(k) true
#endif

/* Nonces are random in the product. They are compared for being equal and for nothing else, so here they are
   numbered anew after each step, in the order of a fixed list of those who remember one. */
inline number(x) {
    if
    :: x != NONE && map[x] == 0 -> map[x] = m; x = m; m++
    :: x != NONE && map[x] != 0 -> x = map[x]
    :: else
    fi
}

inline renumber() {
    n = 0;
    do
    :: n < NODES ->
        i = 0;
        do
        :: i < NAMES -> map[i] = 0; i++
        :: else -> break
        od;
        m = 1;
#ifndef OLD_NONCE
        if :: pc[n] != PUSHING && pc[n] != PUSHED -> nonce[n] = NONE :: else fi;
#endif
        if :: holder != n + 1 && before != n + 1 -> ref[n] = NONE :: else fi;
        number(ref[n]);
        number(nonce[n]);
        if :: before == n + 1 -> number(before_nonce) :: else fi;
#ifdef OLD_NONCE
        if :: late == n + 1 -> number(late_nonce) :: else fi;
#endif
        if
        :: holder == n + 1 ->
            i = 0;
            do
            :: i < NODES -> number(seen[i]); i++
            :: else -> break
            od
        :: else
        fi;
        n++
    :: else -> break
    od;
#ifdef BREADTH_FIRST
    i = 0;
    do
    :: i < NAMES -> map[i] = 0; i++
    :: else -> break
    od;
#endif
    i = 0; m = 0; n = 0
}

/* A nonce that nobody remembers. */
inline draw(k) {
    renumber();
    nonce[k] = NAMES - 1
}

/* Observations are of a token: with another one they begin anew. */
inline forget_observations() {
    observing = 0;
    i = 0;
    do
    :: i < NODES -> seen[i] = NONE; silence[i] = 0; i++
    :: else -> break
    od
}

inline dequeue(at) {
    i = at;
    do
    :: i < NODES - 1 -> queue[i] = queue[i + 1]; i++
    :: else -> break
    od;
    queue[NODES - 1] = 0;
    queued--
}

/* leases.serve and grant: the first in the queue, under a new token, with the last holder's trace. */
inline serve() {
    forget_observations();
    holder = 0;
#ifndef TOKEN_KEPT /* a takeover keeps the token */
    current = 0;
#endif
    if
    :: queued > 0 ->
        holder = queue[0] + 1;
        current = current | B(queue[0]);
        older = older & ~B(queue[0]);
        dequeue(0)
    :: else
    fi
}

inline without_trace() {
    before = 0; before_nonce = NONE; before_old = 0; cautious = 0
}

inline put_aside(nonce_seen, doubt) {
    cautious = doubt;
    before = holder; before_nonce = nonce_seen; before_old = 0
}

inline end_session(k) {
    trust[k] = 0; candidate[k] = 0; nonce[k] = NONE; wait[k] = 0;
    worked = worked & ~B(k);
    current = current & ~B(k);
    older = older & ~B(k);
    BUSY(k);
    if :: sessions[k] > 0 -> pc[k] = IDLE :: else -> pc[k] = OVER fi
}

inline observe(k, value) {
    if
    :: (observing & B(k)) && seen[k] == value -> if :: silence[k] == 0 -> pc[k] = TAKING :: else fi
    :: else -> observing = observing | B(k); seen[k] = value; silence[k] = SILENCE
    fi
}

inline elapse(timer, by) {
    timer = (timer > by -> timer - by : 0)
}

proctype node(byte k) {
    byte v;
#ifndef TIMELY /* there, who is stuck shows as an invalid end state */
end:
#endif
    do
    :: d_step { pc[k] == IDLE ->
            /* leases.acquire with wait. */
            sessions[k]--;
            ref[k] = NONE;
            if :: before == k + 1 -> before_old = 1 :: else fi;
            queue[queued] = k; queued++;
            pc[k] = WAITING;
            if :: holder == 0 -> serve() :: else fi;
            renumber();
            DONE(k)
        }
    :: d_step { pc[k] == WAITING && HELD_BY(k) ->
            /* lease._wait_for_predecessors, leases.holder_must_wait: the read AFTER the grant decides. */
            v = (before == 0 || before_old -> NONE : ref[before - 1]);
#ifdef HEARTBEAT_NOT_READ_AGAIN /* after a takeover nobody looks at the old heartbeat once more */
            v = before_nonce;
#endif
            if
#ifdef CAUTION_LEFT_OUT /* nobody waits after a break, or for a holder before the last */
            :: before != 0 && v != before_nonce ->
#else
            :: before != 0 && (v != before_nonce || cautious) ->
#endif
                wait[k] = WAIT; pc[k] = BEFORE
            :: else ->
                without_trace();
                pc[k] = HOLDING
            fi;
            v = 0;
#ifdef WORK_BEFORE_RENEWAL /* a grant counts as trust */
            if :: pc[k] == HOLDING -> trust[k] = TRUST; worked = worked | B(k) :: else fi;
#endif
            renumber();
            BUSY(k)
        }
    :: d_step { pc[k] == WAITING && !HELD_BY(k) && QUEUED(k) && holder != 0 && FIRST(k) ->
            /* waiter._challenge, Silence.feed: the same nonce, or none, from the end of its first read. */
            v = ref[holder - 1];
            observe(k, v);
            v = 0;
            renumber();
            DONE(k)
        }
#ifdef UNREADABLE_IS_ABSENT /* a heartbeat that this node cannot read counts as no nonce */
    :: d_step { pc[k] == WAITING && !HELD_BY(k) && QUEUED(k) && holder != 0 && ref[holder - 1] != NONE && FIRST(k) ->
            observe(k, NONE);
            renumber();
            DONE(k)
        }
    :: d_step { pc[k] == WAITING && HELD_BY(k) && before != 0 && before_nonce == NONE && !cautious ->
            without_trace();
            pc[k] = HOLDING
        }
#endif
#ifndef DOES_NOT_ASK_AGAIN /* who was put aside before he noticed waits for a grant that he has had */
    :: d_step { pc[k] == WAITING && !HELD_BY(k) && !QUEUED(k) ->
            /* waiter._look: the place is lost; it joins again. */
            queue[queued] = k; queued++;
            if :: holder == 0 -> serve() :: else fi;
            renumber();
            BUSY(k)
        }
#endif
    :: d_step { pc[k] == TAKING ->
            /* leases.take_over, by the exact token; another's is refused. The lock goes to the first in the
               queue; to the asker, if it lost its place and nobody waits. */
            if
            :: (observing & B(k)) && holder != 0 ->
                m = (cautious || before != 0);
                n = seen[k];
                put_aside(n, m);
                if :: queued == 0 -> queue[0] = k; queued = 1 :: else fi;
                serve()
            :: else
            fi;
            pc[k] = WAITING;
            renumber();
            BUSY(k)
        }
    :: atomic { pc[k] == BEFORE && wait[k] > 0 && FIRST(k) ->
#ifndef SILENT_WHILE_WAITING /* who waits for his predecessor does not renew meanwhile */
            /* It renews while it waits, and learns there as well that it was put aside. */
            if
            :: HELD_BY(k) -> d_step { draw(k); ref[k] = nonce[k]; renumber(); DONE(k) }
            :: else ->
#ifdef TIMELY
                assert(broken & B(k));                             /* served */
#endif
                d_step { end_session(k); renumber() }
            fi
#else
            d_step { DONE(k) }
#endif
        }
    :: d_step { pc[k] == BEFORE && wait[k] == 0 ->
            /* leases.ready: it has waited, and notes so in the lock. */
            pc[k] = HOLDING;
            if :: HELD_BY(k) -> without_trace() :: else fi;
            renumber();
            BUSY(k)
        }
#ifndef TIMELY
    :: d_step { pc[k] == BEFORE && wait[k] > 0 ->
            /* An exception: lease._give_back, by the exact token, not waited for: the trace stays. */
            if
            :: HELD_BY(k) ->
#ifdef TRACE_LOST /* a lock that is given back unused forgets who may still work under it */
                without_trace();
#endif
                serve()
            :: else
            fi;
            end_session(k);
            renumber()
        }
#endif
    :: d_step { pc[k] == HOLDING && FIRST(k) && GOES_ON(k) ->
            /* lease._renew: nonce and time are drawn, then comes the push. */
            draw(k);
            candidate[k] = TRUST;
            pc[k] = PUSHING;
            renumber()
        }
    :: d_step { pc[k] == PUSHING -> ref[k] = nonce[k]; pc[k] = PUSHED; renumber() }
#ifndef TIMELY
    /* No answer came. The request was lost; or the server has it, and the same nonce is pushed once more, or
       another one is drawn. */
    :: d_step { pc[k] == PUSHING -> candidate[k] = 0; pc[k] = HOLDING; renumber() }
    :: d_step { pc[k] == PUSHING && ref[k] != nonce[k] -> ref[k] = nonce[k]; renumber() }
    :: d_step { pc[k] == PUSHING -> ref[k] = nonce[k]; candidate[k] = 0; pc[k] = HOLDING; renumber() }
#ifdef TRUST_FROM_LAST_PUSH /* of a nonce that was pushed twice, trust counts from the last push */
    :: d_step { pc[k] == PUSHING && ref[k] == nonce[k] -> candidate[k] = TRUST }
#endif
#endif
    :: atomic { pc[k] == PUSHED ->
            /* A read of the ledger that begins after the acknowledgement; only then is trust extended. */
            if
#ifdef LEDGER_NOT_READ /* trust is extended without a look at the token */
            :: true ->
#else
            :: (current & B(k)) ->
#endif
                d_step {
                    if :: candidate[k] > trust[k] -> trust[k] = candidate[k] :: else fi;
                    candidate[k] = 0;
                    worked = worked | B(k);
                    pc[k] = HOLDING;
                    renumber();
                    if
                    :: WORKS(k) ->
                        i = 0;
                        do
                        :: i < NODES -> assert(i == k || !WORKS(i)); i++ /* one-works */
                        :: else -> break
                        od;
                        assert(!(older & B(k)));                   /* no-older-token-works */
                        older = 0;
                        i = 0;
                        do
                        :: i < NODES ->
                            if :: i != k && pc[i] >= BEFORE && pc[i] <= PUSHED -> older = older | B(i) :: else fi;
                            i++
                        :: else -> break
                        od
                    :: else
                    fi;
                    DONE(k)
                }
            :: else ->
#ifdef TIMELY
                assert(broken & B(k));                             /* served */
#endif
                d_step { end_session(k); renumber() }
            fi
        }
    :: atomic { pc[k] == HOLDING && (worked & B(k)) ->
            /* The end of the work: leases.release by the exact token, predecessors waited for. */
#ifdef TIMELY
            spent[k] > 0;
            broken = broken & ~B(k); spent[k] = 0;
#endif
            d_step {
                if :: HELD_BY(k) -> without_trace(); serve() :: else fi;
                end_session(k);
                renumber()
            }
        }
    :: d_step { kills > 0 && !ENDED(k) && pc[k] != IDLE ->
            /* Killed. What it works on goes on until its trust ends: that is the watchdog's deadline. */
            kills--;
            pc[k] = DEAD; candidate[k] = 0; wait[k] = 0; nonce[k] = NONE;
            worked = worked & ~B(k);
            seen[k] = NONE; silence[k] = 0; observing = observing & ~B(k);
            renumber()
        }
#ifdef TIMELY
    :: ENDED(k) -> break
#endif
    od
}

proctype world() {
    byte k;
end:
    do
    :: d_step {
#ifdef TIMELY
            EVERY(QUIET) && !EVERY(ENDED) ->
            done = 0;
#else
            true ->
#endif
            i = 0;
            do
            :: i < NODES ->
                n = (phase > 0 -> 1 : rate[i]);
                elapse(trust[i], n);
                elapse(candidate[i], n);
                elapse(wait[i], n);
                elapse(silence[i], n);
#ifdef TIMELY
                if :: (worked & B(i)) && spent[i] < LONG -> spent[i]++ :: else fi;
#endif
                i++
            :: else -> break
            od;
#ifdef CLOCKS
            phase = (phase + 1) % 3;
#endif
            i = 0; n = 0
        }
    :: d_step { breaks > 0 && holder != 0 ->
            /* leases.break_lock, by hand. */
            breaks--;
#ifdef TIMELY
            broken = broken | B(holder - 1);
#endif
            put_aside(NONE, 1);
            serve();
            renumber()
        }
#ifndef TIMELY
    /* leases.evict, of whichever waiter: somebody has seen it silent, as far as he knows. */
    :: d_step { queued > 0 -> dequeue(0); i = 0 }
    :: d_step { queued > 1 -> dequeue(1); i = 0 }
#if NODES > 2
    :: d_step { queued > 2 -> dequeue(2); i = 0 }
#endif
#endif
#ifdef OLD_NONCE
    /* What a process of the builder read a while ago (Pulse._collect) is pushed over what was drawn since: by
       one that was slow and tries again (SLOW_PUSHER), or by a copy of the store (COPY_BEATS). */
    :: d_step { late == 0 && holder != 0 && pc[holder - 1] != DEAD && nonce[holder - 1] != NONE ->
            late = holder; late_nonce = nonce[holder - 1];
            renumber()
        }
    :: d_step { late != 0 -> k = late - 1; ref[k] = late_nonce; late = 0; late_nonce = NONE; k = 0; renumber() }
#endif
#ifdef DEAD_LEFT_OUT /* another process of the builder pushes, and leaves out what a dead one drew */
    :: d_step { holder != 0 && pc[holder - 1] == DEAD && ref[holder - 1] != NONE ->
            k = holder - 1; ref[k] = NONE; k = 0; renumber()
        }
#endif
#ifdef RENEWED_BY_ANOTHER /* the builder's beat draws a nonce for a process that is dead */
    :: d_step { holder != 0 && pc[holder - 1] == DEAD && FIRST(holder - 1) ->
            k = holder - 1; DONE(k); draw(k); ref[k] = nonce[k]; nonce[k] = NONE; k = 0; renumber()
        }
#endif
#ifdef WITHDRAWN_BY_A_COPY /* a copy of the holder's store, which knows its processes for dead, withdraws the grant */
    :: d_step { breaks > 0 && holder != 0 -> breaks--; serve(); renumber() }
#endif
    od
}

init {
    atomic {
        byte k;
        do
        :: k < NODES ->
            sessions[k] = SESSIONS;
            rate[k] = 1;
#ifdef CLOCKS
            if :: rate[k] = 0 :: rate[k] = 1 :: rate[k] = 2 fi;
#endif
            run node(k);
            k++
        :: else -> break
        od;
        k = 0;
        run world()
    }
}

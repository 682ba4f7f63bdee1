/* The lease protocol: two workers, one job, at most three attempts.
 *
 * A lease has a number of its own. A worker may be paused for as long as it likes, and then settles under the lease that
 * it was given. The lease may run out whenever it is held; whoever recovers it queues the job again, or fails it.
 *
 * Safety: no settling is accepted but under the lease that is valid, and nothing follows a completion.
 * Liveness: under weak fairness the job ends.
 *
 * BROKEN: settling looks at the state alone.
 */
#define MAX 3
#define NONE 0

mtype = { queued, running, completed, failed };
mtype state = queued;
byte attempts = 0;
byte lease = NONE;   /* the valid lease, NONE where there is none */
byte leases = 0;     /* how many were ever given */

inline settle(mine) {
    atomic {
#ifdef BROKEN
        if
        :: state == running ->
#else
        if
        :: lease == mine ->
#endif
            assert(lease == mine);
            assert(state == running);
            lease = NONE;
            if
            :: state = completed
            :: attempts < MAX -> state = queued
            :: attempts >= MAX -> state = failed
            fi
        :: else -> skip   /* the outcome is thrown away */
        fi
    }
}

active [2] proctype worker() {
    byte mine;
end_idle:
    do
    :: atomic { state == queued ->
            assert(attempts < MAX);
            attempts++; leases++; lease = leases; mine = leases; state = running }
        settle(mine)
    :: state == completed || state == failed -> break
    od
}

active proctype recoverer() {
end_looking:
    do
    :: atomic { state == running ->   /* the lease may have run out, and may not */
            lease = NONE;
            if
            :: attempts < MAX -> state = queued
            :: else -> state = failed
            fi }
    :: state == completed || state == failed -> break
    od
}

ltl ends { <> (state == completed || state == failed) }

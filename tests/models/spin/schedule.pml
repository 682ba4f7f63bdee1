/* The slot of a schedule: two schedulers, three fires.
 *
 * Each reads the next fire, and advances it together with making the job, in one step, if it is still what was read.
 * Either may be stopped for good between reading and advancing.
 *
 * Safety: each fire makes at most one job, and none is passed over. Liveness: while one scheduler lives, all are made.
 *
 * BROKEN: advancing does not compare.
 */
#define FIRES 3

byte next = 0;
byte jobs[FIRES];
bool dead = false;

proctype scheduler(bool mortal) {
    byte read;
    do
    :: atomic { next < FIRES -> read = next };
        if
        :: mortal -> dead = true; break
        :: true -> skip
        fi;
        atomic {
#ifdef BROKEN
            if
            :: true ->
#else
            if
            :: next == read ->
#endif
                jobs[read]++;
                assert(jobs[read] == 1);
                next = read + 1
            :: else -> skip
            fi
        }
    :: next >= FIRES -> break
    od
}

init {
    atomic { run scheduler(true); run scheduler(false) }
    (_nr_pr == 1);
    assert(jobs[0] == 1 && jobs[1] == 1 && jobs[2] == 1)
}

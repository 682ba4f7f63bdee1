/* Fast death detection: a holder with a lifeline, and a watcher that takes two looks.
 *
 * The holder may die, or lose its lifeline and live: then it says so, and takes the lifeline again. The watcher takes over
 * where it finds the lifeline free twice in a row with no sign of life between. A holder that is slow to speak may be
 * judged wrongly, and writes with the lease that it had.
 *
 * Safety: whatever the verdict, no write is accepted under a lease that was taken away.
 * Liveness: a dead holder's job runs again.
 *
 * BROKEN: a write is accepted from whoever once had the job.
 */
bool alive = true;
bool lifeline = true;
byte beats = 0;
byte lease = 1;        /* 1: the holder's; 2: the watcher's */
bool settled = false;

active proctype holder() {
    byte cuts = 0;
    do
    :: atomic { lifeline && cuts < 1 -> lifeline = false; cuts++ }
    :: atomic { !lifeline -> beats++; lifeline = true }
    :: atomic { alive = false; lifeline = false; break }
    :: atomic {
#ifdef BROKEN
            !settled ->
#else
            lease == 1 && !settled ->
#endif
            assert(lease == 1);
            settled = true; break }
    :: lease != 1 -> break
    od
}

active proctype watcher() {
    byte seen;
end_looking:
    do
    :: settled -> break
    :: !lifeline && !settled ->
        seen = beats;
        if
        :: atomic { !lifeline && beats == seen && !settled -> lease = 2 };
           atomic { lease == 2 && !settled -> settled = true; break }
        :: lifeline || beats != seen -> skip
        :: settled -> break
        fi
    od
}

ltl taken_over { [] (!alive -> <> settled) }

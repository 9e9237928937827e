/*
 * A cut: several of the pod's containers stand still together, so that their
 * checkpoints show one moment, and all archives get their names or none.
 *
 *   keeper_cut         freezes them and says so; the call stays open
 *   keeper_checkpoint  with cut, for each of them
 *   keeper_cut_end     waits for criu's ends, names the archives or forgets them
 *
 * Failure: when the open call is cancelled, which is what the death of anybody
 * above comes to, or the time is over, the archives are forgotten. Whatever
 * happens, the containers go on. A keeper's successor lets them go, and again
 * when the last criu, which leaves what it found frozen as it was, has ended;
 * then it removes what that one has left.
 */
#pragma once

struct keeper;

/* criu has ended for one of them, or a checkpoint was dropped. */
void cut_step(struct keeper *k);
/* In a successor, with the containers adopted. */
void cut_recover(struct keeper *k);

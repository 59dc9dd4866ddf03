"""A crash, as a step of a scenario. Its phases, with the lanes that decide them:

    flush each component, or not                                                   "flush"
      -> one more operation, in whose middle the power fails, or none              "inside", "during", "strike", "cut"
         or an exception from outside arrives: `interrupt.py` has what follows     "interrupt"
      -> poll all dependencies: writes that are persistent now must survive
      -> the device stops and loses what its model allows, or the process dies     "death", "survivor"
      -> a new system recovers on what is left; the next crash may cut that short  "recovery"
      -> judge keys and contents
      -> perhaps the power fails again, with nothing written: contents must stay   "again", "outage"

A crash of the coarse tier comes between operations, and leaves or takes as a whole what each extent was given.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from harness.scenario import history as events
from harness.scenario.interrupt import interrupt
from harness.scenario.ledger import PENDING
from harness.scenario.side_by_side import SideBySide
from harness.scenario.verdict import SHARE_CRASHES_MAX, SHARE_STATES_MAX
from harness.spec.plan import Action
from harness.spec.spec import Mode
from harness.world.interruption import Where
from harness.world.power import PowerCut, Strike

# How many events into an operation, or a recovery, the power may fail.
CUT_EVENTS_MAX: Final = 16
CUT_FAR_MAX: Final = 8  # rarely, up to so many times as far
CUT_BARRIERS_MAX: Final = 4  # the same for barriers and for resets
RECOVERY_EVENTS_MAX: Final = 4
RECOVERIES_CUT_MAX: Final = 2
DEATH_ODDS: Final = 6  # one crash of so many kills only the process

_STRIKES = tuple(Strike)


def cut_after(events_count: int) -> dict[str, int]:
    """The choices of a crash that lets so many events of an operation happen."""
    return {"cut.0": events_count % CUT_EVENTS_MAX, "far.0": events_count // CUT_EVENTS_MAX}


class CrashStep:
    """One crash of one scenario."""

    __slots__ = ("_action", "_choose", "_is_all_persistent", "_is_fine", "_polled_at_cut", "_scenario")

    def __init__(self, scenario: SideBySide, action: Action) -> None:
        self._scenario = scenario
        self._action = action
        self._choose = scenario.tape.choose
        self._is_fine = action.tier == "fine"
        self._is_all_persistent = False  # by a clean shutdown, so that the crash may take nothing
        self._polled_at_cut: list[str] = []

    def perform(self) -> None:
        scenario, action = self._scenario, self._action
        for name in action.flushes:
            if self._choose("flush", 2):
                scenario.call(scenario.plan.action_of[name])
        inner = self._choose_inner() if self._is_fine else None
        if inner is not None:
            self._perform(inner)
        states = self._poll()
        died = self._dies()
        any_loss = self._stop(died)
        self._recover()
        if self._is_all_persistent:  # and not sooner, for whoever watches the life that has ended
            scenario.ledger.clear()
            states = []
        any_persistent, any_lost = scenario.judge_outcomes(action.name, states)
        scenario.counters.crashes_lossy += int(any_persistent and (any_lost or any_loss))
        scenario.compare_contents(action.name, "persistence")
        if self._is_fine and self._choose("outage" if died else "again", 2):
            self._stop(died=False)
            scenario.open_system(action.name)
            scenario.compare_contents(action.name, "persistence")

    # --- before -------------------------------------------------------------------------------------

    def _choose_inner(self) -> Action | None:
        """The operation that the crash interrupts, or None."""
        # Write-back has a value of its own, since it has most of the device events.
        plan, choose = self._scenario.plan, self._choose
        kinds = [each for each in ((plan.write_back,) if plan.write_back else (), plan.interruptible) if each]
        inside = choose("inside", 1 + len(kinds))
        if not inside:
            return None
        candidates = kinds[inside - 1]
        return candidates[choose("during", len(candidates))]

    def _perform(self, inner: Action) -> None:
        plan = self._scenario.plan
        # What a device refuses and an exception breaks would excuse each other.
        is_spared = plan.spec.interrupts is None or inner.name in plan.spared or plan.mode is Mode.FAULTS
        where = Where.NOWHERE if is_spared else Where(self._choose("interrupt", len(Where)))
        if where is Where.NOWHERE:
            self._cut(inner)
        else:
            overlap, self._scenario.overlap = self._scenario.overlap, None  # one disturbance at a time
            self._is_all_persistent = interrupt(self._scenario, inner, where)
            self._scenario.overlap = overlap

    def _cut(self, inner: Action) -> None:
        """Perform one more operation; the power fails in its middle, or after it if it has too few events."""
        scenario, choose = self._scenario, self._choose
        strike = _STRIKES[choose("strike", len(_STRIKES))]
        count = choose("cut", CUT_EVENTS_MAX if strike is Strike.EVENT else CUT_BARRIERS_MAX)
        count += CUT_EVENTS_MAX * choose("far", CUT_FAR_MAX)
        scenario.arguments = None  # so that `note_unfinished` can tell whether the call had begun
        scenario.world.fail_power_after(strike, count if strike is Strike.EVENT else count + 1, self._poll_at_cut)
        try:
            scenario.act(inner)
        except PowerCut:
            scenario.counters.operations_cut += 1
            scenario.note(events.PowerFailed, inner.name, strike, count)
            scenario.note_unfinished(inner)
        scenario.world.keep_power()

    def _poll_at_cut(self) -> None:
        """Poll the ledger at the moment at which the power fails, before the system handles the error."""
        with self._scenario.world.seam.held_monitors_aside():
            self._polled_at_cut = self._scenario.ledger.poll_at_cut()

    def _poll(self) -> list[str]:
        """The state of each write of the ledger when the power failed."""
        scenario = self._scenario
        try:
            states = self._polled_at_cut or scenario.ledger.poll()
        except BaseException as error:
            scenario.fail_on(error, self._action.name)
        writes = scenario.ledger.writes
        states += [PENDING] * (len(writes) - len(states))  # of the interrupted call, entered after the poll
        scenario.note(events.Began, self._action.name)
        if scenario.history is not None:
            for write, state in zip(writes, states, strict=True):
                scenario.note(events.Polled, write.step, write.operation, write.key, state)
        return states

    # --- the crash itself, and after ----------------------------------------------------------------

    def _dies(self) -> bool:
        """Whether only the process dies, and the power does not fail."""
        return self._is_fine and self._choose("death", DEATH_ODDS) == 1

    def _stop(self, died: bool) -> bool:
        """Stop the device, or only the process, which leaves the device's log as it is. Whether writes are lost."""
        scenario = self._scenario
        counters, world = scenario.counters, scenario.world
        counters.crashes += 1
        if died:
            world.reboot()
            scenario.note(events.ProcessDied)
            return False
        if self._is_fine:
            self._count_share()
        counters.cuts += 1
        counters.cuts_telling += world.is_much_open()
        losses = world.crash(self._action.tier)
        counters.crash_states.add(*world.contents())
        scenario.note(events.Lost, tuple(losses))
        return bool(losses)

    def _count_share(self) -> None:
        # Only the first crashes, and those with few legal states: counting all of them takes too long.
        counters = self._scenario.counters
        if counters.share_crashes < SHARE_CRASHES_MAX:
            legal = self._scenario.world.legal_states_count()
            if legal <= SHARE_STATES_MAX:
                counters.share_crashes += 1
                counters.share_tried += 1
                counters.share_legal += legal

    def _recover(self) -> None:
        """Open again, perhaps after some recoveries that a further crash cuts short."""
        scenario = self._scenario
        for _ in range(RECOVERIES_CUT_MAX if self._is_fine else 0):
            cut = self._choose("recovery", 1 + RECOVERY_EVENTS_MAX)
            if not cut:
                break
            scenario.counters.recoveries_cut += 1
            scenario.world.fail_power_after(Strike.EVENT, cut - 1)
            scenario.note(events.RecoveryCut, cut - 1)
            with suppress(PowerCut):  # or recovery has fewer events, and ends before the power fails
                scenario.build_system(self._action.name)
            self._stop(self._dies())
        scenario.open_system(self._action.name)

"""Who takes the steps of runs: one run by its own program, runs of one shape by one program.

A run (`train.course`) is a coroutine. It asks for its next step and waits for what the step gives;
how the step is taken is not its business. So runs that share their programs (`programs.shape`) can
train as one: their states lie stacked on the device, one vmapped step moves all of them, each with
its own batch, key, step and rate, and everything else of a run stays its own: its folder, lease,
rows, checkpoints, scores and result. Any of them goes on alone from its checkpoint, or together
again. On an accelerator the step of a small network waits for launches rather than arithmetic,
and several such steps cost little more than one.
"""

import contextlib
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from research.errors import Interrupted
from research.programs import Programs
from research.run import lease


class Asked(NamedTuple):
    """A step that a run asks for: the program it wants, and the arguments of `program.step`."""

    program: Programs
    given: tuple[Any, ...]


Course = Generator[Asked, tuple[Any, dict[str, Any]], dict[str, Any]]


def alone(course: Course) -> dict[str, Any]:
    """Go through the `course` of one run and return its result."""
    with contextlib.closing(course):
        try:
            program, given = next(course)
            while True:
                program, given = course.send(program.step(*given))
        except StopIteration as ended:
            return ended.value


class Stack:
    """The states of several runs, stacked; the first axis of each array counts the runs.

    A place whose run has ended steps on for nobody until `Stack` is made anew.
    """

    def __init__(self, asked: Sequence[Asked]):
        self.program = asked[0].program
        self.states = self.program.stack(*[dict(each.given[0]) for each in asked])
        self.inputs = [each.given[1:] for each in asked]

    def step(self, asked: Mapping[int, Asked]) -> dict[int, tuple["Place", dict[str, Any]]]:
        """Take the step that each place is `asked` for, all at once."""
        for place, each in asked.items():
            self.inputs[place] = each.given[1:]
        inputs = tuple(zip(*self.inputs, strict=True))
        self.states, metrics = self.program.together(self.states, *inputs)
        return {place: (Place(self, place), metrics[place]) for place in asked}


class Place(Mapping):
    """The state of one run of a stack: its parts are cut out when somebody reads them.

    It is that of the stack's last step, as a state that is given to a step is no longer there.
    """

    def __init__(self, stack: Stack, place: int):
        self.stack, self.place = stack, place

    def __getitem__(self, part: str) -> Any:
        return _cut(self.stack.states[part], self.place)

    def __contains__(self, part: object) -> bool:
        return part in self.stack.states

    def __iter__(self) -> Iterator[str]:
        return iter(self.stack.states)

    def __len__(self) -> int:
        return len(self.stack.states)


@jax.jit
def _cut(stacked: Any, place: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[place], stacked)


def together(courses: Sequence[Course]) -> list[dict[str, Any] | None]:
    """Go through `courses`, of runs of one shape, and return their results.

    Numbers differ from those of a run alone by rounding, as XLA orders the sums of a batched
    product in its own way. A run that another process holds, or takes over, is left to it: None.

    Raises:
        Interrupted: when the runs were asked to stop, each with its state saved.
        UserError: of the first run that has one; the others end as if they had been killed.
    """
    results: list[dict[str, Any] | None] = [None] * len(courses)
    stopped: list[Interrupted] = []
    with contextlib.ExitStack() as ends:
        for course in courses:
            ends.enter_context(contextlib.closing(course))

        def further(index: int, taken: Any) -> Asked | None:
            """What run `index` asks for when it was given the step it asked for before."""
            try:
                return courses[index].send(taken)
            except StopIteration as ended:
                results[index] = ended.value
            except lease.Held:
                pass
            except Interrupted as error:
                stopped.append(error)

        asked = {index: further(index, None) for index in range(len(courses))}
        going = {index: each for index, each in asked.items() if each}
        while going:
            places = {index: place for place, index in enumerate(going)}
            stack = Stack([*going.values()])
            # The rest of a stack that is half empty is worth a compile, but not once a stop is due.
            while going and (stopped or 2 * len(going) > len(places)):
                steps = stack.step({places[index]: each for index, each in going.items()})
                asked = {index: further(index, steps[places[index]]) for index in going}
                going = {index: each for index, each in asked.items() if each}
    if stopped:
        raise stopped[0]
    return results

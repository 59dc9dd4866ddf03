from harness import ZONED, Background, Configuration, Crash, Durability, MediumShape
from harness import Operation, Reboot, Spec, keys, payloads
from notebook.store import Model, Notebook

SPEC = Spec(
    "notebook",
    system=lambda world: Notebook(world.media[0]),  # opens, or recovers, on a simulated device
    model=Model,  # a dictionary with the same methods
    operations=[
        Operation("get", key=keys),
        Operation("put", key=keys, value=payloads(16), weight=4, writes="key"),
        Background("sync"),
        Reboot(),
        Crash(),
    ],
    configurations=[Configuration("zoned", (MediumShape(1, 64, 64, ZONED),))],
    durability=Durability(read=lambda subject, key: subject.get(key), settle=Model.put),
)

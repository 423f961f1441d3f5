"""The server under load, beside a plain Flask app around other libraries and MLServer with scikit-learn."""

import json
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import program
from benchmarks.bench import Bench, Found, Line, missing
from benchmarks.data import Table
from benchmarks.figures import interleave, percentile
from benchmarks.load import Client, load, need_wrk, pinging
from benchmarks.plots import Curve, Panel, draw
from benchmarks.program import Served
from benchmarks.programs import NotMeasured, say
from benchmarks.readme import number, span, table, times
from benchmarks.records import Frames, csv_lines
from benchmarks.servers import OURS, PLAIN, WAYS, Way

_K = 10
_ROWS, _ASKED = 200_000, 10_000
_KINDS = ("covertype", "uniform")
_CONNECTIONS = (1, 8, 32, 128)
_GOAL_AT = 32
_PINGED_AT = (_GOAL_AT, max(_CONNECTIONS))
_REPLAY_ROWS, _REPLAY_BATCHES = 58_102, 100
_RATES = {"covertype": 15.0, "uniform": 2.5}
_TAIL, _PING, _REPLAY, _REPLAY_SECONDS = 5.0, 0.05, 15.0, 4.0


def measure(bench: Bench) -> Found:
    """Loads all servers, one at a time, for each kind of data; then plays AWS's notebook to ours and the plain app."""
    found: Found = {"kinds": [], "missing": {}}
    try:
        need_wrk()
    except NotMeasured as reason:
        found["missing"]["wrk"] = str(reason)
    for kind in _KINDS:
        made = bench.source.table(kind, bench.pick(_ROWS, 20_000), 54, _REPLAY_ROWS)
        folder = bench.folder / kind
        _prepare(folder, made)
        with ExitStack() as stack:
            servers = {}
            for it in WAYS:
                try:
                    servers[it.title] = it, stack.enter_context(it.start(folder))
                except Exception as reason:  # whatever others fail with must not end our own measurement
                    if it.title == OURS:
                        raise
                    say(f"{it.title}: {reason}")
                    found["missing"][it.title] = str(reason).splitlines()[0]
            entry: Found = {"kind": kind, "name": bench.source.name(kind), "rows": len(made.rows)}
            if "wrk" not in found["missing"]:
                entry["loads"] = _loads(bench, folder, servers)
                entry["pings"] = [
                    {"connections": connections, "server": title, **_pings(bench, folder, *servers[title], connections)}
                    for connections in _PINGED_AT
                    for title in (OURS, PLAIN)
                    if title in servers
                ]
            if kind == "covertype" and PLAIN in servers:
                entry["replay"] = _replay(bench, made, servers)
        found["kinds"].append(entry)
    return found


def _prepare(folder: Path, made: Table) -> None:
    """Trains our model, and leaves the others what they load, and the bodies of requests."""
    hyperparameters = {"k": _K, "predictor_type": "classifier", "sample_size": len(made.rows)}
    channels = program.lay_out(folder / "job", hyperparameters)
    program.without_test(folder / "job")
    Frames(made.rows.shape[1]).write(channels["train"] / "rows.pbr", made.rows, made.labels)
    program.train(folder / "job")
    np.save(folder / "rows.npy", made.rows)
    np.save(folder / "labels.npy", made.labels)
    asked = made.queries[:_ASKED]
    (folder / "bodies.csv").write_text("".join(f"{line}\n" for line in csv_lines(asked)))
    with (folder / "bodies.jsonl").open("w") as file:
        for row in asked.tolist():
            tensor = {"name": "rows", "shape": [1, len(row)], "datatype": "FP32", "data": row}
            file.write(json.dumps({"inputs": [tensor]}) + "\n")


def _loads(bench: Bench, folder: Path, servers: dict[str, tuple[Way, Served]]) -> list[Found]:
    """Single rows over growing numbers of connections; where the goals are, longer and in turn."""
    found = []
    seconds = bench.pick(4.0, 1.0)
    for title, (it, server) in servers.items():
        load(it.route(folder, server), 8, bench.pick(2.0, 1.0))
        say(f"{title} is warm")
    for connections in _CONNECTIONS:
        kept: dict[str, list[Found]] = {title: [] for title in servers}

        def ask(title: str, kept: dict[str, list[Found]] = kept, connections: int = connections) -> float:
            it, server = servers[title]
            one = load(it.route(folder, server), connections, seconds)
            kept[title].append(asdict(one))
            return one.rate

        few, many = bench.pick((1, 3), (1, 1))
        rounds = many if connections == _GOAL_AT else few
        entrants = {title: (lambda _, title=title: ask(title)) for title in servers}
        interleave(entrants, 1e9, rounds, rounds)
        found += [
            {"connections": connections, "server": title, "runs": runs, **_middle(runs)} for title, runs in kept.items()
        ]
        say(f"{connections} connections: {[(it['server'], round(it['rate'])) for it in found[-len(servers) :]]}")
    return found


def _middle(runs: list[Found]) -> Found:
    """The median run by its rate."""
    run = sorted(runs, key=lambda it: it["rate"])[len(runs) // 2]
    return {name: run[name] for name in ("rate", "p50", "p99")} | {"failed": sum(it["failed"] for it in runs)}


def _pings(bench: Bench, folder: Path, it: Way, server: Served, connections: int) -> Found:
    """Health while all connections are busy."""
    load(it.route(folder, server), 8, bench.pick(2.0, 1.0))
    with pinging(server.port) as seconds:
        load(it.route(folder, server), connections, bench.pick(6.0, 2.0))
    return {"p50": percentile(seconds, 50), "p99": percentile(seconds, 99), "count": len(seconds)}


def _replay(bench: Bench, made: Table, servers: dict[str, tuple[Way, Served]]) -> Found:
    """AWS's notebook: the test rows as 100 CSV batches, one after another; both servers take turns at each batch."""
    batches = np.array_split(made.queries, _REPLAY_BATCHES)[: bench.pick(_REPLAY_BATCHES, 5)]
    bodies = ["\n".join(csv_lines(batch)) for batch in batches]
    clients = {title: Client(servers[title][1].port) for title in (OURS, PLAIN)}
    answers: dict[str, list[Any]] = {title: [] for title in clients}
    for client in clients.values():
        client.post(bodies[0])

    def ask(title: str, turn: int) -> float:
        took, answer = clients[title].post(bodies[turn])
        answers[title] += [it["predicted_label"] for it in json.loads(answer)["predictions"]]
        return took

    entrants = {title: (lambda turn, title=title: ask(title, turn)) for title in clients}
    found, lost = interleave(entrants, 1e9, len(bodies), len(bodies))
    for client in clients.values():
        client.close()
    if lost:
        raise NotMeasured(str(lost))
    same = float(np.mean(np.equal(answers[OURS], answers[PLAIN])))
    seconds = {title: sum(took) for title, took in found.items()}
    return {"rows": sum(map(len, batches)), "batches": len(bodies), "seconds": seconds, "same": same}


def plot(found: Found, folder: Path) -> None:
    """Latency against load."""
    panels = []
    for it in (it for it in found["kinds"] if "loads" in it):
        for share in ("p50", "p99"):
            curves = [
                Curve(title, [(at["rate"], 1000 * at[share]) for at in it["loads"] if at["server"] == title])
                for title in dict.fromkeys(at["server"] for at in it["loads"])
            ]
            title = f"{it['name']}: single rows over {', '.join(map(str, _CONNECTIONS))} connections"
            panels.append(Panel(title, "requests a second", f"{share}, ms", curves))
    if panels:
        draw(panels, folder / "serving.svg")


def report(found: Found) -> str:
    """The plot, a table of loads, and the replay."""
    parts = [f"{name} was not measured: {reason}.\n" for name, reason in found["missing"].items()]
    if "wrk" not in found["missing"]:
        parts.append("![Latency against load](docs/benchmarks/serving.svg)\n")
    for it in found["kinds"]:
        if "loads" not in it:
            continue
        rows = [
            (
                at["server"],
                str(at["connections"]),
                number(at["rate"]),
                number(1000 * at["p50"]),
                number(1000 * at["p99"]),
                str(at["failed"]),
            )
            for at in sorted(it["loads"], key=lambda at: at["connections"])
        ]
        heads = ("", "connections", "requests a second", "p50, ms", "p99, ms", "failed")
        pings = "; ".join(
            f"{ping['connections']}, {ping['server']}: p50 {span(ping['p50'])}, p99 {span(ping['p99'])}"
            for ping in it["pings"]
        )
        parts.append(
            f"**{it['name']}, {it['rows']:,} x 54, single rows as CSV, k = {_K}**\n\n{table(heads, rows)}\n"
            f"`/ping` while so many connections ask for rows: {pings}.\n"
        )
    for it in (it["replay"] for it in found["kinds"] if "replay" in it):
        took = ", ".join(f"{title} {span(seconds)}" for title, seconds in it["seconds"].items())
        parts.append(
            f"**AWS's notebook**: {it['rows']:,} rows as {it['batches']} CSV batches over one connection: {took}; "
            f"{100 * it['same']:.2f} % of the predictions are equal.\n"
        )
    return "\n".join(parts)


def lines(found: Found) -> list[Line]:
    """Rates and tails under load, health, and the replay."""
    made = []
    for it in found["kinds"]:
        work = f"single rows, {_GOAL_AT} connections, {it['name']}"
        at = {load["server"]: load for load in it.get("loads", []) if load["connections"] == _GOAL_AT}
        goal = times(_RATES[it["kind"]])
        if OURS not in at or PLAIN not in at:
            reason = found["missing"].get("wrk") or found["missing"].get(PLAIN, "")
            made.append(missing(work, goal, reason))
            continue
        ours, theirs = at[OURS], at[PLAIN]
        ratio = ours["rate"] / theirs["rate"]
        made.append(
            Line(
                work,
                f"{number(ours['rate'])} requests a second",
                f"{number(theirs['rate'])} ({PLAIN})",
                ratio,
                goal,
                ratio >= _RATES[it["kind"]],
            )
        )
        tail = ours["p99"] / ours["p50"]
        made.append(
            Line(
                f"{work}: p99 over p50",
                f"{span(ours['p99'])} over {span(ours['p50'])}: {times(tail)}",
                "",
                None,
                f"under {times(_TAIL)}",
                tail < _TAIL and not ours["failed"],
            )
        )
        for ping in it["pings"]:
            if ping["server"] == OURS:
                work = f"`/ping` beside {ping['connections']} such connections, {it['name']}: p99"
                met = ping["p99"] < _PING
                made.append(Line(work, span(ping["p99"]), "", None, f"under {span(_PING)}", met))
    return made + _replay_lines(found)


def _replay_lines(found: Found) -> list[Line]:
    goals = f"{times(_REPLAY)}, under {span(_REPLAY_SECONDS)}"
    replays = [it["replay"] for it in found["kinds"] if "replay" in it]
    if not replays:
        return [missing("AWS's replay over HTTP", goals, found["missing"].get(PLAIN, ""))]
    work = f"AWS's replay: {replays[0]['rows']:,} rows as {replays[0]['batches']} CSV batches over HTTP"
    ours, theirs = (replays[0]["seconds"][title] for title in (OURS, PLAIN))
    met = theirs / ours >= _REPLAY and ours < _REPLAY_SECONDS
    return [Line(work, span(ours), f"{span(theirs)} ({PLAIN})", theirs / ours, goals, met)]

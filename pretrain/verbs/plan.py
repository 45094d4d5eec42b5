"""``pretrain plan``: what a run will need, before anything is allocated."""

from __future__ import annotations

import argparse
import json
import math
from typing import TYPE_CHECKING, Any

from rich.filesize import decimal
from rich.markup import escape

from data.errors import InputError
from data.store.bytesize import parse_size
from data.words import duration
from pretrain.verbs import options
from pretrain.verbs.tables import console, table_of

if TYPE_CHECKING:
    from rich.console import Console

    from pretrain.plan.plan import Plan

_SHARE = 0.4
_NAMES = {"tokens": "tokens", "images": "images", "audio_s": "of sound"}


def parser() -> argparse.ArgumentParser:
    """The verb's command line."""
    found = options.Parser(
        prog="pretrain plan",
        description="Says what a run will need: parameters, FLOPs, memory of a device, disk, data, time. One step is "
        "carried out on tensors without contents; samples are read, nothing is trained or written. Exit code 2 if "
        "something would keep the run from starting; all of it is named. A task whose shards are out of reach is "
        "planned with samples as large as its config allows.",
    )
    add = found.add_argument
    add("overrides", metavar="KEY=VALUE", nargs="*", help="as `pretrain` takes them")
    add("--fits", metavar="SIZE", help="of a device's memory (80GB): find the largest micro-batch that fits")
    add(
        "--tflops",
        metavar="N",
        type=float,
        help="of a device in training (default: a guess from a product here)",
    )
    add("--price", metavar="N", type=float, help="of a device for an hour")
    options.add_config_dir(found)
    options.add_json(found)
    return found


def main(argv: list[str]) -> int:
    """Runs the verb and returns its exit code.

    Raises:
        InputError: the config, the model or an option is wrong.
    """
    arguments = parser().parse_args(argv)
    limit = parse_size(arguments.fits, "--fits") if arguments.fits else None
    for name in ("tflops", "price"):
        value = getattr(arguments, name)
        if value is not None and not 0 < value < math.inf:
            raise InputError(f"--{name} {value:g} is no number above 0")
    from pretrain import config

    composed = config.load(arguments.overrides, arguments.config_dir)
    from pretrain.devices import accelerator_of
    from pretrain.plan.plan import Planner

    planner = Planner(composed)
    tried = [planner.plan(None)] if limit is None else planner.fit(limit)
    plan = tried[-1]
    fits = None if limit is None or not plan.planned else plan.memory.most <= limit
    if limit is not None and plan.planned:
        plan = planner.plan(plan.micro_batch_size, plan.checkpoint_blocks)
    rate, source = _rate(arguments.tflops, accelerator_of(composed["trainer"]["accelerator"]), plan)
    hours = plan.seconds(rate) / 3600 * plan.devices if plan.planned else 0.0
    if arguments.json:
        about: dict[str, Any] = {"flops_per_s": rate, "seconds": plan.seconds(rate), "device_hours": hours}
        about |= {"cost": None if arguments.price is None else hours * arguments.price, "fits": fits}
        about |= {"tried": [_row(one) for one in tried]} if limit is not None else {}
        print(json.dumps(plan.as_json() | about))
    else:
        out = console()
        if limit is not None and plan.planned:
            _show_tried(out, tried, limit)
        _show(out, plan)
        if plan.planned:
            cost = f", {hours * arguments.price:,.2f} at {arguments.price:g} an hour" if arguments.price else ""
            out.print(f"time        {duration(plan.seconds(rate))}, {hours:.3g} device hours{cost}: {source}")
    return 2 if plan.faults or fits is False else 0


def _rate(stated: float | None, device: str, plan: Plan) -> tuple[float, str]:
    if stated is not None:
        return stated * 1e12, f"at {stated:g} TFLOP/s of a device, as stated"
    from pretrain.plan.rate import matmul_rate

    peak = matmul_rate(device, plan.precision)
    text = f"at {_SHARE:.0%} of the {peak / 1e12:.3g} TFLOP/s of a matrix product on this machine's {device}; --tflops"
    return _SHARE * peak, f"{text} states another rate"


def _row(plan: Plan) -> dict[str, Any]:
    blocks = plan.checkpoint_blocks
    return {"micro_batch_size": plan.micro_batch_size, "checkpoint_blocks": blocks, "most": plan.memory.most}


def _show_tried(out: Console, tried: list[Plan], limit: int) -> None:
    table = table_of("micro_batch_size>", "checkpoint_blocks", "memory, largest samples>", "")
    for one in tried:
        fits = "[green]fits[/green]" if one.memory.most <= limit else "[red]too much[/red]"
        blocks = "as configured" if one.checkpoint_blocks is None else str(one.checkpoint_blocks)
        table.add_row(f"{one.micro_batch_size:,}", blocks, decimal(one.memory.most), fits)
    out.print(table)
    last = tried[-1]
    if last.memory.most <= limit:
        blocks = f" trainer.checkpoint_blocks={last.checkpoint_blocks}" if last.checkpoint_blocks is not None else ""
        out.print(f"fits        {decimal(limit)}: micro_batch_size={last.micro_batch_size}{blocks}")
    else:
        out.print(
            f"[red]nothing fits {decimal(limit)}; more devices with trainer.strategy=fsdp, or a smaller model[/red]"
        )


def _show(out: Console, plan: Plan) -> None:
    for fault in plan.faults:
        out.print(f"[red]fault[/red]       {escape(fault)}", soft_wrap=True)
    for remark in plan.remarks:
        out.print(f"[yellow]remark[/yellow]      {escape(remark)}", soft_wrap=True)
    if plan.planned:
        parts = ", ".join(f"{name} {_count(number)}" for name, number in plan.parameters.items())
        out.print(f"parameters  {_count(sum(plan.parameters.values()))}: {parts}", soft_wrap=True)
        table = table_of("task", "batch>", "FLOP a step>", "a sample>", "samples>", "epochs>", "in all")
        for name, task in plan.tasks.items():
            seen = ", ".join(_amount(unit, amount) for unit, amount in task.units.items())
            each = task.flops / task.batch_size
            row = (f"{task.batch_size:,}", _count(task.flops), _count(each), f"{task.samples:,}", _epochs(task.epochs))
            table.add_row(name, *row, seen)
        out.print(table)
        memory = plan.memory
        held = {"weights": memory.weights, "gradients": memory.gradients, "optimizer": memory.optimizer}
        held |= {"averages": memory.averages, "gathered": memory.gathered, "activations": memory.activations}
        listed = ", ".join(f"{name} {decimal(size)}" for name, size in held.items() if size)
        micro = plan.micro_batch_size or "whole share"
        out.print(
            f"step        {_count(plan.flops)}FLOP on {plan.devices} device(s), {plan.strategy}, {plan.precision}"
        )
        out.print(f"memory      {decimal(memory.most)} of a device (micro-batch: {micro}): {listed}", soft_wrap=True)
        out.print(
            f"disk        {decimal(plan.checkpoint)} a checkpoint, {decimal(plan.disk)} for those kept and one more"
        )
        features = ", ".join(f"{name} {_count(flops)}FLOP" for name, flops in plan.inference.items())
        out.print(f"inference   of one sample: {features}", soft_wrap=True)
    shown = ", ".join(map(str, plan.fitting[:24])) + (", ..." if len(plan.fitting) > 24 else "")
    out.print(f"devices     that divide every global batch: {shown}", soft_wrap=True)


def _count(number: float) -> str:
    for size, unit in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:.3g} "


def _epochs(number: float | None) -> str:
    return "not known" if number is None else f"{number:.3g}"


def _amount(unit: str, amount: float) -> str:
    return f"{duration(amount)} {_NAMES[unit]}" if unit == "audio_s" else f"{_count(amount).strip()} {_NAMES[unit]}"

"""``diffincl train``."""

from __future__ import annotations

import argparse
import sys
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from .experiment import Shards, shards
from .nn import RELATIVES, VARIANTS
from .training import DATA, MODELS, Job, Metrics, Recipe

__all__ = ["add_train"]

DONE, FAILED, BAD_USAGE, INTERRUPTED = 0, 1, 2, 130
ABOUT = {
    "epochs": "passes over the data", "optimiser": "adamw, adam or sgd", "lr": "learning rate of the first epoch",
    "momentum": "of sgd", "weight_decay": "of the optimiser", "batch": "samples a step, of all processes together",
    "clip": "largest norm of the gradient; none for any", "control": "λ of (λ/2)∫(‖A1‖² + ‖A2‖²)dt",
    "smoothness": "factor of ∫‖θ'‖²dt", "temperature": "of the cross entropy", "schedule": "cosine or constant",
    "gradient": "backprop, checkpoint (less memory), or auto: checkpoint where a batch takes more than 1 GiB",
    "precision": "float32 or bfloat16 (mixed)",
    "augment": "whether batches are augmented: yes or no", "refine": "epochs before which the depth is doubled: 20,40",
    "seed": "of weights, order and augmentation",
    "compile": "through torch.compile, which needs a C++ compiler: yes or no",
    "depth": "layers (of each stage)", "width": "of the dense network",
    "widths": "channels of the stages of the image network: 16,32,64", "kernel": "side of its kernels",
    "horizon": "T; a layer has length T/depth",
    "curves": "weights constant or linear on the pieces", "limit": "of h‖A‖² in variant s, at most 2",
    "isometric": "orthogonal lift and unit rows in the head of the dense network: yes or no",
}
KINDS = {bool: "yes or no", tuple: "whole numbers with commas between them", int: "a whole number", float: "a number"}


def add_train(commands: Any) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "train", help="train a network",
        description="Train a network whose weights are functions of time, and keep in DIR a line of JSON an epoch "
                    "(log.jsonl) and the last two checkpoints. Under torchrun --nproc-per-node P -m diffincl train … "
                    "the processes share every batch. Exit status: 0 done, 1 the loss is not finite, 2 bad usage or a "
                    "file that cannot be read or written, 130 interrupted.")
    parser.add_argument("--data", choices=DATA, default="digits", help="data set (default digits)")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="where the files of cifar10 or cifar100 are")
    parser.add_argument("--model", choices=MODELS, default="dense", help="kind of network (default dense)")
    parser.add_argument("--variant", choices=(*VARIANTS, *RELATIVES), default="resnet",
                        help="default resnet; " + ", ".join(RELATIVES) + " are relatives to compare with")
    for option in (*fields(Job), *fields(Recipe)):
        if option.name in ABOUT:
            default = option.default
            assert default is not MISSING
            alone = {"nargs": "?", "const": True} if default is False else {}  # --compile is --compile yes
            parser.add_argument(f"--{option.name.replace('_', '-')}", default=default, metavar="X",
                                type=_reader(option.name, default), help=f"{ABOUT[option.name]} (default "
                                f"{_shown(default)})", **alone)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the run")
    parser.add_argument("--resume", action="store_true", help="go on with the run in DIR, bit for bit")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where to train (default cpu)")
    parser.set_defaults(run=_train)


def _shown(default: Any) -> str:
    if isinstance(default, tuple):
        return ",".join(map(str, default)) or "none"
    return {True: "yes", False: "no"}[default] if isinstance(default, bool) else str(default)


def _reader(name: str, default: Any) -> Any:
    """From text to the kind of value that the default is."""

    def read(text: str) -> Any:
        try:
            if isinstance(default, bool):
                return {"yes": True, "no": False}[text]
            if isinstance(default, tuple):
                return tuple(int(part) for part in text.split(",")) if text != "none" else ()
            return None if (name, text) == ("clip", "none") else type(default)(text)
        except (ValueError, KeyError) as error:
            kind = KINDS[type(default)]
            raise argparse.ArgumentTypeError(f"must be {kind}; got {text!r}") from error

    return read


def _train(options: argparse.Namespace) -> int:
    with shards() as among:
        try:
            job = _job(options)
            _require_device(options.device)
            return _run(job, options, among)
        except ArithmeticError as error:
            return _failed(str(error), FAILED)
        except KeyboardInterrupt:
            return _failed(f"interrupted; --out {options.out} --resume goes on from the last epoch", INTERRUPTED)
        except OSError as error:
            kept = "" if isinstance(error, FileExistsError) else "; checkpoints kept before are whole, --resume goes on"
            return _failed(f"{error}{kept}", BAD_USAGE)
        except (ValueError, TypeError, ModuleNotFoundError) as error:
            return _failed(str(error), BAD_USAGE)


def _failed(message: str, status: int) -> int:
    print(f"diffincl train: error: {message}", file=sys.stderr)
    return status


def _job(options: argparse.Namespace) -> Job:
    recipe = Recipe(**{option.name: getattr(options, option.name) for option in fields(Recipe)})
    return Job(**{option.name: getattr(options, option.name) for option in fields(Job) if option.name != "recipe"},
               recipe=recipe)


def _require_device(device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda needs a GPU that torch can use, and there is none here; take --device cpu")


def _run(job: Job, options: argparse.Namespace, among: Shards) -> int:
    """Train under a bar over the epochs, shown by the first process."""
    data = job.load_data(options.folder)
    steps = job.recipe.steps(len(data.train_x))
    last: Metrics = {}
    with tqdm(total=job.recipe.epochs * steps, unit="step", file=sys.stderr, dynamic_ncols=True, delay=1e-3,
              disable=not among.first) as bar:  # the delay: nothing is shown before the first step

        def tell(metrics: Metrics) -> None:
            last.update(metrics)
            bar.n = int(metrics["epoch"] or 0) * steps
            bar.set_postfix_str(f"epoch {metrics['epoch']}, loss {metrics['loss']:.4f}, test {metrics['test']:.2%}")

        job.run(options.out, data, resume=options.resume, device=options.device, step=bar.update, epoch=tell,
                say=lambda text: bar.write(f"diffincl train: {text}", file=sys.stderr))
    if among.first:
        print(f"{options.out}: {job.recipe.epochs} epochs, test accuracy {last['test']:.2%}, Lipschitz factor "
              f"{last['certified']:.4g} (from above)")
    return DONE

"""Published weights by name: the record, the file, and the same numbers converted to
ours, in the cache.

A converted file says in its metadata from which file it was made and how. As long as
that holds, it is mapped as it lies there: without network, lock, hashing or conversion.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.api.better import say_better
from zoo.api.build import construct, takes
from zoo.api.checkpoint import with_own_keys
from zoo.api.records import default_tag, nearest_published
from zoo.api.source import Source, layouts_of, resolve, with_tag
from zoo.errors import UsageError, WeightsError, warn
from zoo.files import load_state, read_about, write_state
from zoo.formatting import as_arguments
from zoo.paths import offline
from zoo.spec import Preprocessing
from zoo.weights import formats, input_norm
from zoo.weights.cache import (
    CONVERTED,
    agrees,
    cache_folder,
    converted_files,
    locked,
    note_receipt,
    receipt,
    receipt_of,
    writable,
)
from zoo.weights.fetch import at_hand, from_network
from zoo.weights.records import WeightsRecord, WeightsSource
from zoo.weights.remote import RemoteFile, measured

if TYPE_CHECKING:
    from torch import Tensor

CONVERTER = 1  # goes up whenever conversion gives other numbers than before


def published(source: Source, progress: bool = True) -> Source:
    """The network with its published weights, fetched and converted where they are not
    in the cache: those of its tag, else its default ones. Says what arguments they
    need, and which variant has better ones.

    Raises WeightsError where there are none, or they cannot be had.
    """
    tagged = with_default_tag(source)
    record, folder = _record(tagged), cache_folder()
    recorded, convert_it = tagged.recorded, None
    if writable(folder) or in_cache(tagged):
        path = converted(tagged, progress)
        about_it = read_about(path) or {}
        file = about_it.get("source", {}).get("file")
        classes = tuple(about_it.get("classes") or ())
        if record.input_norm:
            recorded = Preprocessing.from_dict(about_it["preprocessing"])
    else:
        each, path = obtained(tagged, progress)
        classes = tuple((read_about(path) or {}).get("classes") or ())
        file, convert_it = each.remote.file, partial(_numbers, tagged, each, path)
        if record.input_norm:
            recorded = convert(tagged, each, path)[1]
        warn(
            f"{tagged.name}: the cache {folder} is read-only and has only the published {file}: "
            f"it is converted anew each time; ZOO_CACHE names another folder; {record.describe()}"
        )
    assert tagged.origin is not None
    if tagged is not source:
        say_better(tagged)
    if record.model_args:
        given = as_arguments(record.model_args)
        warn(f"{tagged.name}: the network is built with {given}, as these weights need it")
    if record.preprocessing is None and tagged.takes_images:
        warn(f"{tagged.name}: their preprocessing is not known; that of the network is taken")
    urls = [url for each in record.sources for url in each.remote.urls if each.remote.file == file]
    known = {"url": next(iter(urls), None), "license": record.licence, "file": file}
    whole = with_backbones(tagged, record.backbones, progress)
    assert whole.origin is not None
    return replace(
        whole,
        origin=replace(whole.origin, published=known),
        weights=path,
        classes=classes,
        convert=convert_it,
        recorded=recorded,
    )


def with_backbones(
    source: Source, arguments: Iterable[str] | None = None, progress: bool = True
) -> Source:
    """The network with the published weights of those inside it (all, or those of some
    `arguments`): of the tag that is named, else their default ones, whose tag is then
    named. Raises WeightsError where there are none, or they cannot be had.
    """
    if source.variant is None or source.origin is None:
        return source
    found: dict[str, Source] = {}
    named: dict[str, str] = {}
    for argument, own in source.variant.backbones.items():
        if arguments is not None and argument not in arguments:
            continue
        name, colon, output = str(source.model_args.get(argument) or own.name).partition(":")
        inner = published(resolve(name), progress)
        found[argument] = inner
        named[argument] = f"{inner.name}{colon}{output}"
    origin = replace(source.origin, model_args={**source.origin.model_args, **named})
    return replace(source, origin=origin, backbones=found)


def with_default_tag(source: Source) -> Source:
    """The source as it is where it has a tag, else with the tag of its default weights.
    Raises WeightsError where it has none.
    """
    if source.origin is None or source.weights or source.module is not None:
        raise WeightsError(f"{source.name} has its own numbers: leave out pretrained=True")
    if source.record:
        return source
    tag = default_tag(source.origin.architecture, source.family)
    if not tag:
        raise no_weights(source)
    return with_tag(source, tag)


def no_weights(source: Source) -> WeightsError:
    """That nobody publishes weights, and what to do."""
    assert source.origin is not None
    name = source.origin.architecture
    nearest = nearest_published(name, source.family)
    said = f"there are no weights for {name!r}"
    if not nearest:
        return WeightsError(f"{said}; load a file with checkpoint_path=…")
    if nearest == "train here":
        return WeightsError(f"{said}: nobody publishes any; `zoo finetune {name}` trains it")
    return WeightsError(f"{said}: nobody publishes any; the nearest that has some: {nearest}")


# -------------------------------------------------------------------------- the file


def in_cache(source: Source) -> Path | None:
    """The converted file of a source with a tag, when it is there and was made of the
    file that the record means, in the way that it would be made now.
    """
    for path in converted_files(source.name):
        about = read_about(path)
        if about and _is_of(about, source):
            return path
    return None


def converted(source: Source, progress: bool = True, anew: bool = False) -> Path:
    """The converted file of a source with a tag, made where it is not in the cache.
    Raises WeightsError.
    """
    if not anew and (found := in_cache(source)):
        return found
    each, path = obtained(source, progress)
    folder = cache_folder()
    original = receipt(folder, each.remote.file) or receipt_of(path)
    target = folder / CONVERTED / f"{source.name}-{original['sha256'][:12]}.safetensors"
    with locked(folder, target.name):
        if not anew and (found := in_cache(source)):  # by the process that had the lock
            return found
        state, preprocessing = convert(source, each, path)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WeightsError(f"{target.parent} cannot be made: {error.strerror}") from error
        facts = about(source, each, original, preprocessing)
        if words := (read_about(path) or {}).get("classes"):
            facts["classes"] = words
        write_state(target, state, facts)
        size = target.stat().st_size
        made = RemoteFile(file=target.name, urls=())
        note_receipt(made, folder, measured(target)["sha256"], size, url="")
    assert source.record is not None
    warn(f"{source.name}: {path.stat().st_size:,} bytes; {source.record.describe()}")
    return target


def obtained(source: Source, progress: bool = True) -> tuple[WeightsSource, Path]:
    """A published file of a record that can be read, and its place in the cache: the
    first that is there, else the first in the mirror's folder, else the first that the
    network gives. Raises WeightsError with the reason for each of them.
    """
    record, folder = _record(source), cache_folder()
    known = {"", *layouts_of(source)}
    reasons = [
        f"{each.remote.file} has the key names of {each.layout}, which are not known for "
        f"{source.name.partition('.')[0]}"
        for each in record.sources
        if each.layout not in known
    ]
    readable = [each for each in record.sources if each.layout in known]
    here = [each for each in readable if (folder / each.remote.file).is_file()]
    absent = []
    for each in [*here, *(each for each in readable if each not in here)]:
        try:
            if path := at_hand(each.remote, folder):
                return each, path
            absent.append(each)
        except WeightsError as error:
            reasons.append(str(error))
    if absent and not writable(folder):
        absent = []
        reasons.append(
            f"{source.name} is not in the cache {folder}, which is read-only: ZOO_CACHE names "
            "another folder"
        )
    missing = False  # and the network is not to be asked
    for each in absent:
        try:
            return each, from_network(each.remote, folder, progress)
        except WeightsError as error:
            reasons.append(f"nor is {each.remote.file}" if missing else str(error))
            missing = offline()
    raise WeightsError("; ".join(dict.fromkeys(reasons)))


def convert(
    source: Source, each: WeightsSource, path: Path
) -> tuple[dict[str, Tensor], Preprocessing | None]:
    """The numbers of a published file as a network of ours has them: names, shapes and
    types; and the preprocessing that they need. Raises WeightsError for a file that is
    not of this network.
    """
    record, where = _record(source), str(path)
    state: Mapping[str, Tensor] = formats.read(path, each.format)
    bare = construct(source, "meta").state_dict()
    if each.layout:
        state = with_own_keys(source, bare, state, each.layout, where)
    state, norm = input_norm.split(state, bare)
    preprocessing = record.preprocessing
    if bool(norm) != record.input_norm:
        there = "a" if norm else "no"
        raise WeightsError(f"{where}: has {there} batch norm on the image, unlike the record")
    if norm:
        assert preprocessing is not None
        preprocessing = input_norm.composed(preprocessing, norm, where)
    auxiliary = any(key.startswith("aux.") for key in state) and takes(source, "aux")
    model = construct(source, "meta", **({"aux": True} if auxiliary else {}))
    own = model.state_dict()
    left_out = {key: own[key] for key in own if key not in state and record.may_lack(key)}
    load_state(model, {**left_out, **state}, where)  # or it does not fit
    result = {
        key: tensor.to(own[key].dtype)
        for key, tensor in model.state_dict().items()
        if not tensor.is_meta
    }
    wrong = [key for key, tensor in result.items() if not tensor.isfinite().all()]
    if wrong:
        raise WeightsError(f"{where}: {wrong[0]} holds numbers that are not finite")
    return result, preprocessing


def _numbers(source: Source, each: WeightsSource, path: Path) -> dict[str, Tensor]:
    return convert(source, each, path)[0]


def about(
    source: Source,
    each: WeightsSource,
    original: Mapping[str, Any],
    preprocessing: Preprocessing | None,
) -> dict[str, Any]:
    """What a converted file says of its network and where it comes from."""
    record = _record(source)
    assert source.origin is not None
    return {
        "architecture": source.origin.architecture,
        "tag": source.origin.tag,
        "model_args": dict(record.model_args),
        "preprocessing": preprocessing.to_dict() if preprocessing else None,
        "licence": record.licence,
        "source": dict(original, format=each.format, layout=each.layout),
        "converter": _converter(source, each),
    }


def _record(source: Source) -> WeightsRecord:
    if source.record is None:
        raise UsageError(f"{source.name} names no weights")
    return source.record


def _is_of(about: Mapping[str, Any], source: Source) -> bool:
    origin, made_of = source.origin, about.get("source")
    if origin is None or not isinstance(made_of, Mapping):
        return False
    if (about.get("architecture"), about.get("tag")) != (origin.architecture, origin.tag):
        return False
    return any(
        each.remote.file == made_of.get("file")
        and (not each.remote.strongest or agrees(each.remote, made_of))
        and about.get("converter") == _converter(source, each)
        for each in _record(source).sources
    )


def _converter(source: Source, each: WeightsSource) -> str:
    """What conversion goes by, as a few digits: a file that was made otherwise is made
    anew.
    """
    layout = layouts_of(source).get(each.layout)
    written = asdict(layout) if layout else None
    record = _record(source)
    before = asdict(record.preprocessing) if record.input_norm and record.preprocessing else None
    parts = [CONVERTER, each.format, each.layout, written, record.model_args, before]
    return sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:12]

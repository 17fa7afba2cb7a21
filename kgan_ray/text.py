"""Numbers, durations, settings and names as people read them."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Iterable, Mapping

_MOST_DECIMALS = 4
_UNSPOKEN = re.compile(r"_(std|quantile)$")  # what a setting's name says of its unit


def close_match(name: str, accepted: Iterable[str]) -> str:
    """Return ' Did you mean X?' for the nearest accepted name, or the empty string."""
    near = difflib.get_close_matches(name, list(accepted), n=1, cutoff=0.5)
    return f" Did you mean {near[0]}?" if near else ""


def short_overrides(overrides: Mapping[str, object]) -> str:
    """Return `pooling=max, label_noise_std=0.31`: settings without their branch, numbers to three digits."""
    leaves = [name.rsplit(".", 1)[-1] for name in overrides]
    parts = [
        f"{leaf if leaves.count(leaf) == 1 else name}={setting_value(value)}"
        for leaf, (name, value) in zip(leaves, overrides.items(), strict=True)
    ]
    return ", ".join(parts)


def spoken_setting(name: str) -> str:
    """Return `input noise` for techniques.input_noise_std."""
    leaf = name.rsplit(".", 1)[-1]
    return _UNSPOKEN.sub("", leaf).replace("_", " ")


def spoken_overrides(overrides: Mapping[str, object]) -> str:
    """Return `mask 0.7, input noise 0.01, pooling max`: settings as a person names them; `no change` for none."""
    names = {name: spoken_setting(name) for name in overrides}
    parts = []
    for name, value in overrides.items():
        is_alone = list(names.values()).count(names[name]) == 1
        spoken = names[name] if is_alone else name.rsplit(".", 1)[-1].replace("_", " ")
        parts.append(f"{spoken} {'off' if value is None else setting_value(value)}")
    return ", ".join(parts) or "no change"


def described_schedule(schedule: Iterable[tuple[int, Mapping[str, object]]]) -> str:
    """Return `rate=0.001; from step 200: rate=0.0005`: a schedule that names only what changes."""
    parts: list[str] = []
    before: Mapping[str, object] = {}
    for step, settings in schedule:
        changes = {name: value for name, value in settings.items() if name not in before or before[name] != value}
        if changes:
            parts.append((f"from step {step}: " if step else "") + short_overrides(changes))
        before = settings
    return "; ".join(parts)


def setting_value(value: object) -> str:
    """Return a setting's value, a number to three digits."""
    if isinstance(value, float):
        return f"{value:.3g}"
    return value if isinstance(value, str) else json.dumps(value)


def number(value: float | None, digits: int = 4) -> str:
    """Return a metric with so many digits, up to a million all of those before the point; a dash for none."""
    if value is None or not math.isfinite(value):
        return "-"
    text = f"{value:.{digits}g}"
    return f"{value:.0f}" if "e+" in text and abs(value) < 1e6 else text


def with_spread(mean: float | None, deviation: float | None) -> str:
    """Return `2950 ± 1766`, `0.621 ± 0.069`: both to the deviation's second digit, or to the fourth decimal."""
    if mean is None or deviation is None or not math.isfinite(mean + deviation):
        return number(mean)
    magnitude = math.floor(math.log10(deviation)) if deviation > 0 else -_MOST_DECIMALS
    decimals = min(_MOST_DECIMALS, max(0, 1 - magnitude))
    return f"{mean:.{decimals}f} ± {deviation:.{decimals}f}"


def span(low: object, high: object) -> str:
    """Return `9 to 36`; one of them where they read the same."""
    return f"{low} to {high}" if str(low) != str(high) else str(low)


def with_factor(mean: float | None, factor: float | None) -> str:
    """Return `95.2 ×÷ 1.16`: a geometric mean and the factor of one standard deviation, three digits each."""
    if mean is None or factor is None:
        return number(mean, 3)
    return f"{number(mean, 3)} ×÷ {factor:.2f}"


def duration(seconds: float | None) -> str:
    """Return seconds as `2:03`, `1:02:03` or, from two days on, `6.8 days`; a dash for none."""
    if seconds is None or not math.isfinite(seconds):
        return "-"
    if seconds >= 48 * 3600:
        return f"{seconds / (24 * 3600):.1f} days"
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def safe_name(text: str) -> str:
    """Return the text with `_` for what the names of folders and MLflow's keys may not hold."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", text)


def described(error: Exception) -> str:
    """Return `RuntimeError: out of memory`: the class and a line of the message, the last where it holds a traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    line = lines[-1 if any("Traceback" in line for line in lines) else 0] if lines else ""
    return f"{type(error).__name__}: {line}"[:300]

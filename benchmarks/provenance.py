"""Where the numbers of some records come from, in words. Imports no jax."""


def values(found: list[dict], part: str, key: str) -> str:
    """What `part` ("config" or "env") of the records says of `key`."""
    return ", ".join(sorted({str(record[part].get(key)) for record in found}))


def words(found: list[dict], *versions: str) -> str:
    """Device, versions of these packages, commits and dates, for a caption."""
    envs = [record["env"] for record in found]
    commits = {f"{str(env['commit'])[:10]}{' (dirty)' * bool(env['dirty'])}" for env in envs}
    dates = sorted(env["date"][:10] for env in envs) or [""]
    facts = [f"device {values(found, 'env', 'device')}"]
    facts += [f"{package} {values(found, 'env', package)}" for package in versions]
    facts += [f"commit {', '.join(sorted(commits))}"]
    return "; ".join([*facts, " to ".join(dict.fromkeys((dates[0], dates[-1])))]) + "."

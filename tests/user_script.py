"""A script as a user writes it: `make check` holds its types against those that llmrl ships, and a test runs it."""

import sys

import gymnasium

import llmrl


def main(folder: str) -> None:
    summary = llmrl.train(
        llmrl.compose(["learner=random", "env=overcooked_tomato", "env_steps=16", f"paths.runs={folder}"])
    )
    where: str = summary["folder"]
    (run,) = llmrl.load_runs(folder)
    successes: list[float] = run.metrics["eval/success"].to_pylist()
    env = gymnasium.make("llmrl/Household-v0")
    print(run.name, where.endswith(run.name), len(successes), env.observation_space is not None)
    env.close()


if __name__ == "__main__":
    main(sys.argv[1])

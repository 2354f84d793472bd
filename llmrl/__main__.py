def main() -> None:
    """The `llmrl` command, which Ctrl-C ends quietly even while Python still reads its modules."""
    try:
        from llmrl.cli import main as command
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    command()


if __name__ == "__main__":
    main()

"""`foretell models serve`: a model behind a port."""
import click
@click.command()
def serve(): ...

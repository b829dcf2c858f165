"""File names as text: where results and commands import them from; see `glass_rt.machine.file_names`."""

from glass_rt.machine.file_names import name_from_text, text_from_name

__all__ = ["name_from_text", "text_from_name"]

"""Lists of templates: open_clip's for ImageNet, and files."""

from laclip_ray.errors import UserError
from laclip_ray.evaluation.sets.text_lists import read_list

OPENAI, SIMPLE = "openai", "simple"
"""Names of open_clip's lists for ImageNet: OpenAI's 80 templates, and the 7 that stand for them. The paper's code
measures its own models with the 7, and those on LAION-400M with the 80."""

NAMED_TEMPLATE_LISTS = (OPENAI, SIMPLE)

NAME_PLACE = "{c}"
"""Stands for the class name in a template."""


def load_templates(spec: str, where: str) -> list[str]:
    """Templates, each with `{c}` for the class name.

    Args:
        spec: `openai`, `simple`, or a file with a template a line; or a JSON file (`FILE.json`, `FILE.json#KEY`) with a
            list of them. In files, `{}` stands for the name, too.
        where: the setting, begins a message.

    Raises:
        UserError: there is no such list, or a template has no place for the name.
    """
    if spec in NAMED_TEMPLATE_LISTS:
        from laclip_ray.light_open_clip import open_clip

        functions = open_clip.OPENAI_IMAGENET_TEMPLATES if spec == OPENAI else open_clip.SIMPLE_IMAGENET_TEMPLATES
        return [function(NAME_PLACE) for function in functions]
    entries = read_list(spec, where, NAMED_TEMPLATE_LISTS)
    for entry in entries:
        if not isinstance(entry, str):
            raise UserError(
                f"{where}: {spec} holds {entry!r:.100}; a template is a text. Prompts of single classes are given as "
                f"class_names, several names a class, with the template {NAME_PLACE}"
            )
    return check_templates(entries, where)


def check_templates(lines: list[str], where: str) -> list[str]:
    """The templates of non-blank lines, with `{c}` for the class name.

    Raises:
        UserError: a template has no place for the name, or all lines are blank.
    """
    templates = [line.strip().replace("{}", NAME_PLACE) for line in lines if line.strip()]
    for template in templates:
        if NAME_PLACE not in template:
            raise UserError(f"{where}: the template {template!r} has no {NAME_PLACE}")
    if not templates:
        raise UserError(f"{where}: all templates are blank; give texts with {NAME_PLACE} for the class name")
    return templates

"""Projects: folders that ``kluis new`` writes from a template, each an application with its test."""

from kluis.projects.catalogue import ProjectTemplate, template, templates
from kluis.projects.writing import Written, write

__all__ = ["ProjectTemplate", "Written", "template", "templates", "write"]

"""Shows what a worker stored in the language of whoever reads it."""

from django import template

from studies.sentences import in_the_readers_language

register = template.Library()
register.filter("in_the_readers_language", in_the_readers_language)

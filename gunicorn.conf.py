"""What gunicorn finds by itself when it is started here; the settings are in portal/webserver.py."""

from portal.webserver import *  # noqa: F403 - gunicorn takes the names of this file

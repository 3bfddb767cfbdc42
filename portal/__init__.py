"""Project package of the Intelligent Radiologist Assistant: settings, addresses, system checks and the demo."""

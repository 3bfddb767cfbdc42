"""Infrastructure as code (CloudFormation), the deployment, and the smoke test. Nothing of the portal imports this."""

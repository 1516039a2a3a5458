"""Say what this project is made of: licences and a bill of materials of its dependencies, and known vulnerabilities."""

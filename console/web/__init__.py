"""The console in a browser: who gets in (gate), the server (_site), and one process for each page
(session on the server's side, driver inside the process). Only _site needs chelate[web]."""

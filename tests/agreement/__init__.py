"""Our packets and scapy's, held against each other: `python -m tests.agreement --packets 1000000`, `make scapy`."""

import logging, os, uuid
import requests
from requests.adapters import HTTPAdapter, Retry


def notify(region, videos):
    """Tells every open page what a fetch has found; never fails the fetch."""
    server = os.environ["NOTIFIER_URL"]
    with requests.Session() as session:
        session.mount(server, HTTPAdapter(max_retries=Retry(
            total=5, backoff_factor=1, status_forcelist=[429, 500, 502, 503, 504], allowed_methods=None)))
        try:
            answer = session.post(
                server + "/notify",
                json={"region": region, "videos": videos},
                headers={
                    "Authorization": "Bearer " + os.environ["NOTIFIER_TOKEN"],
                    # Drawn once: a retry of a post that arrived is no second toast.
                    "Idempotency-Key": str(uuid.uuid4()),
                },
                timeout=10,
            )
            if answer.ok:
                return answer.json()
            logging.warning("video-notifier: %s was not announced: %s", region, answer.text)
        except requests.RequestException as error:
            logging.warning("video-notifier: %s was not announced: %s", region, error)

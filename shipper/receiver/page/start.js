// How to send something here: what the page shows until something arrives.

import { byId } from "./dom.js";

export function fillExamples() {
  const here = location.origin;
  const examples = {
    python: `import logging, shipper

shipper.start(
    shipper.Trakerr("any-key", url="${here}/api/v1", level="INFO"),
    shipper.JKool("any-token", url="${here}"),
    shipper.Otlp("${here}"),
)
logging.getLogger("shop.orders").info("order %d paid", 17, extra={"amount": 12.5})
shipper.stop()`,
    environment: `export SHIPPER_TRAKERR_API_KEY=any-key
export SHIPPER_TRAKERR_URL=${here}/api/v1
export SHIPPER_JKOOL_TOKEN=any-token
export SHIPPER_JKOOL_URL=${here}
export SHIPPER_OTLP_ENDPOINT=${here}`,
    curl: `curl ${here}/api/v1/events -H 'Content-Type: application/json' \\
  -d '{"apiKey": "any-key", "logLevel": "warning", "eventType": "shop", "eventMessage": "hello"}'`,
  };
  for (const [name, text] of Object.entries(examples)) byId(`start-${name}`).textContent = text;
}

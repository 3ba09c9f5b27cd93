// Without a validator: it would ask another host what it thinks of the document.
SwaggerUIBundle({ url: "/openapi.json", dom_id: "#document", validatorUrl: null, deepLinking: true });

SELECT {{ a }}, {% if b %} 1 {% endif %} {# c #}, ${d};
